import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import java.math.BigDecimal;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Passes the amount of each processed payment on to a topic of our own, exactly once.
 *
 * <p>java Forward.java BROKERS GROUP INSTANCE FROM TO
 */
public class Forward {
  private static final ObjectMapper JSON =
      new ObjectMapper()
          .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
          .setNodeFactory(JsonNodeFactory.withExactBigDecimals(true)); // 99.990 keeps its zero

  public static void main(String[] args) throws Exception {
    String brokers = args[0], group = args[1], instance = args[2], from = args[3], to = args[4];
    Map<String, Object> reading =
        Map.of(
            "bootstrap.servers", brokers,
            "group.id", group,
            "group.instance.id", instance,
            "isolation.level", "read_committed", // the default is read_uncommitted!
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false,
            "max.poll.records", 50);
    Map<String, Object> writing =
        Map.of("bootstrap.servers", brokers, "transactional.id", group + "-" + instance);
    ByteArrayDeserializer in = new ByteArrayDeserializer();
    ByteArraySerializer out = new ByteArraySerializer();
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(reading, in, in);
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(writing, out, out)) {
      producer.initTransactions(); // ends what a crash has left open
      consumer.subscribe(List.of(from));
      while (true) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(500));
        if (records.isEmpty()) {
          continue;
        }
        producer.beginTransaction();
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : records) {
          producer.send(new ProducerRecord<>(to, record.key(), line(record.value())));
          positions.put(
              new TopicPartition(record.topic(), record.partition()),
              new OffsetAndMetadata(record.offset() + 1));
        }
        // What is written and how far was read, in one transaction. After an error the process
        // ends, and begins again at the last one that was committed.
        producer.sendOffsetsToTransaction(positions, consumer.groupMetadata());
        producer.commitTransaction();
      }
    }
  }

  private static byte[] line(byte[] value) throws Exception {
    JsonNode event = JSON.readTree(value);
    BigDecimal amount = event.get("amount").decimalValue();
    String id = event.get("eventId").asText();
    return (id + " " + amount.toPlainString() + " " + event.get("currency").asText()).getBytes();
  }
}
