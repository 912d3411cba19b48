// Print every record of some topics as a KafkaJS consumer sees it, one JSON object a line.
//
// node read.js BROKERS GROUP END TOPIC...
//
// The last record of every partition has the key END: nothing depends on how long reading takes.

const { Kafka, logLevel } = require('kafkajs')

const [brokers, groupId, end, ...topics] = process.argv.slice(2)
const kafka = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.NOTHING })

const print = (topic, partition, { offset, key, value }) =>
  console.log(
    JSON.stringify({
      topic,
      partition,
      offset: Number(offset),
      key: key && key.toString('base64'),
      value: value.toString('base64'),
      event: JSON.parse(value),
    }),
  )

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  const { topics: described } = await admin.fetchTopicMetadata({ topics })
  await admin.disconnect()
  let open = described.reduce((count, topic) => count + topic.partitions.length, 0)

  const consumer = kafka.consumer({ groupId, readUncommitted: false })
  consumer.on(consumer.events.CRASH, ({ payload }) => fail(payload.error))
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      if (message.key?.toString() !== end) return print(topic, partition, message)
      open -= 1
      if (open === 0) setImmediate(() => consumer.disconnect())
    },
  })
}

function fail(error) {
  console.error(`${error.name}: ${error.message}`)
  process.exit(1)
}

main().catch(fail)
