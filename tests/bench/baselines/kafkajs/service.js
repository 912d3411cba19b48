// The job as a Node.js service: KafkaJS, JSON, one transaction for each batch, ids in a Set.

const { Kafka, logLevel } = require('kafkajs')

const { BENCH_BROKERS, BENCH_GROUP, BENCH_REQUESTED, BENCH_PROCESSED, BENCH_FAILED, BENCH_AUDIT } =
  process.env
const CURRENCIES = new Set(['USD', 'EUR', 'GBP', 'CHF', 'JPY', 'SEK', 'NOK', 'DKK', 'PLN', 'CAD'])

const isText = (value) => typeof value === 'string' && value.length >= 1 && value.length <= 255

// FNV-1a: what decides in place of a provider.
function checksumOf(text) {
  let hash = 0x811c9dc5
  for (let n = 0; n < text.length; n++) hash = Math.imul(hash ^ text.charCodeAt(n), 0x01000193)
  return hash >>> 0
}

function problem(request) {
  if (request === null || typeof request !== 'object') return 'the record is not a JSON object'
  for (const name of ['paymentId', 'userId', 'paymentMethod']) {
    if (!isText(request[name])) return `${name}: must be a string of 1 to 255 characters`
  }
  if (typeof request.amount !== 'number' || !(request.amount > 0 && request.amount < 1e12)) {
    return 'amount: must be above 0'
  }
  return CURRENCIES.has(request.currency) ? null : 'currency: must be an ISO 4217 code'
}

function parse(value) {
  try {
    const request = JSON.parse(value)
    return { request, why: problem(request) }
  } catch (error) {
    return { request: null, why: error.message }
  }
}

function decide({ request, why }, source, seen) {
  const eventId = `${source.topic}/${source.partition}/${source.offset}`
  const paymentId = request?.paymentId ?? null
  const at = new Date().toISOString()
  if (why !== null) {
    const error = { code: 'invalid', message: why, retryable: false }
    const eventType = 'payment.failed'
    return {
      failed: { eventId, eventType, paymentId, error, failedAt: at, source },
      audit: { eventId, eventType, paymentId, source, occurredAt: at, error },
    }
  }
  if (seen.has(paymentId)) {
    return { audit: { eventId, eventType: 'payment.duplicate', paymentId, source, occurredAt: at } }
  }
  seen.add(paymentId)
  const { userId, amount, currency, paymentMethod, metadata } = request
  const checksum = checksumOf(paymentId)
  const fields = { paymentId, userId, amount, currency, paymentMethod, metadata }
  if (checksum % 100 < 2) {
    const error = { code: 'declined', message: 'The payment was declined.', retryable: false }
    const eventType = 'payment.failed'
    return {
      failed: { eventId, eventType, ...fields, error, failedAt: at, source },
      audit: { eventId, eventType, paymentId, source, occurredAt: at, error },
    }
  }
  const eventType = 'payment.processed'
  const gatewayReference = `sim_${checksum.toString(16)}`
  return {
    processed: { eventId, eventType, ...fields, gatewayReference, processedAt: at, source },
    audit: { eventId, eventType, paymentId, source, occurredAt: at, gatewayReference },
  }
}

async function main() {
  const kafka = new Kafka({ brokers: BENCH_BROKERS.split(','), logLevel: logLevel.ERROR })
  const consumer = kafka.consumer({
    groupId: BENCH_GROUP,
    readUncommitted: false,
    maxWaitTimeInMs: 100,
    // What it writes of a batch must fit into one of Kafka's: 1 MB, and nothing is compressed.
    maxBytesPerPartition: 256 * 1024,
  })
  const producer = kafka.producer({ transactionalId: BENCH_GROUP, idempotent: true, maxInFlightRequests: 1 })
  const seen = new Set()
  consumer.on(consumer.events.CRASH, ({ payload }) => fail(payload.error))
  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topics: [BENCH_REQUESTED], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset }) => {
      const out = { processed: [], failed: [], audit: [] }
      for (const message of batch.messages) {
        const source = { topic: batch.topic, partition: batch.partition, offset: Number(message.offset) }
        const events = decide(parse(message.value), source, seen)
        for (const [name, event] of Object.entries(events)) {
          out[name].push({ key: message.key, value: JSON.stringify(event) })
        }
      }
      const transaction = await producer.transaction()
      try {
        const topics = { processed: BENCH_PROCESSED, failed: BENCH_FAILED, audit: BENCH_AUDIT }
        const topicMessages = Object.entries(out)
          .filter(([, messages]) => messages.length > 0)
          .map(([name, messages]) => ({ topic: topics[name], messages }))
        await transaction.sendBatch({ topicMessages })
        const next = (BigInt(batch.lastOffset()) + 1n).toString()
        await transaction.sendOffsets({
          consumerGroupId: BENCH_GROUP,
          topics: [{ topic: batch.topic, partitions: [{ partition: batch.partition, offset: next }] }],
        })
        await transaction.commit()
      } catch (error) {
        await transaction.abort()
        throw error
      }
      resolveOffset(batch.lastOffset())
    },
  })
}

function fail(error) {
  console.error(error)
  process.exit(1)
}

main().catch(fail)
