// Print every event of some topics, one line each.
//
// tsc && node print.js BROKERS GROUP TOPIC...

import { Kafka } from 'kafkajs'
import { LosslessNumber, parse } from 'lossless-json'

interface Source { topic: string; partition: LosslessNumber; offset: LosslessNumber }
interface Failure { code: string; message: string; retryable: boolean; providerCode?: string }

interface Event {
  eventId: string
  eventType: string // one of those below today; pass over others
  paymentId: string | null
  source: Source
}
interface Processed extends Event {
  eventType: 'payment.processed'
  paymentId: string
  userId: string
  amount: LosslessNumber // its digits: amount.value
  currency: string
  paymentMethod: string
  metadata?: Record<string, unknown> | null
  gatewayReference: string
  processedAt: string
}
interface Failed extends Event, Partial<Omit<Processed, keyof Event | 'processedAt'>> {
  eventType: 'payment.failed'
  error: Failure
  failedAt: string
  original?: string
  originalTruncated?: true
}
interface Audit extends Event {
  occurredAt: string
  firstSource?: Source
  gatewayReference?: string
  error?: Failure
}

const isAudit = (event: Event): event is Audit => 'occurredAt' in event
const isProcessed = (event: Event): event is Processed => 'processedAt' in event
const isFailed = (event: Event): event is Failed => 'failedAt' in event

function line(event: Event): string {
  const at = `${event.source.partition.value}:${event.source.offset.value}`
  const start = `${event.eventType} ${event.paymentId ?? '-'} at ${at}`
  if (isProcessed(event)) return `${start}: ${event.amount.value} ${event.currency}`
  if (isFailed(event)) return `${start}: ${event.error.code}`
  if (!isAudit(event)) return `${start}: of a kind that this reader does not have`
  if (event.firstSource) {
    const first = `${event.firstSource.partition.value}:${event.firstSource.offset.value}`
    return `audit ${start}: as ${first}`
  }
  return `audit ${start}: ${event.error?.code ?? event.gatewayReference}`
}

async function main(brokers: string, groupId: string, ...topics: string[]): Promise<void> {
  const kafka = new Kafka({ brokers: brokers.split(',') })
  const consumer = kafka.consumer({ groupId }) // read_committed is KafkaJS's default
  // A real reader has a unique key on (topic, eventId) in its database instead, in the transaction
  // of what the event changes: a process that starts again gets the last events a second time.
  const seen = new Set<string>()
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      // Not JSON.parse: it makes binary floats of amounts, with 15 to 17 digits.
      const event = parse(message.value!.toString()) as Event
      const key = `${topic} ${event.eventId}`
      if (!seen.has(key)) console.log(line(event))
      seen.add(key)
      const next = (BigInt(message.offset) + 1n).toString()
      await consumer.commitOffsets([{ topic, partition, offset: next }])
    },
  })
}

const [brokers, groupId, ...topics] = process.argv.slice(2)
main(brokers, groupId, ...topics).catch((error) => {
  console.error(error)
  process.exit(1)
})
