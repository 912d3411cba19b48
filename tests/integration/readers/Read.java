import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Prints every record of some topics as Kafka's own consumer sees it, one JSON object a line.
 *
 * <p>java Read.java --bootstrap-server BROKERS ISOLATION END TOPIC...
 *
 * <p>The last record of every partition has the key END: nothing depends on how long reading takes.
 */
public class Read {
  private static final ObjectMapper JSON =
      new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);

  public static void main(String[] args) throws IOException {
    Map<String, Object> config =
        Map.of("bootstrap.servers", args[1], "isolation.level", args[2], "enable.auto.commit", false);
    List<String> topics = Arrays.asList(args).subList(4, args.length);
    ByteArrayDeserializer bytes = new ByteArrayDeserializer();
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config, bytes, bytes)) {
      List<TopicPartition> partitions =
          topics.stream()
              .flatMap(topic -> consumer.partitionsFor(topic).stream())
              .map(info -> new TopicPartition(info.topic(), info.partition()))
              .toList();
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      int open = partitions.size();
      while (open > 0) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
          if (record.key() != null && new String(record.key()).equals(args[3])) {
            open--;
          } else {
            System.out.println(line(record));
          }
        }
      }
    }
  }

  private static String line(ConsumerRecord<byte[], byte[]> record) throws IOException {
    ObjectNode line = JSON.createObjectNode();
    line.put("topic", record.topic()).put("partition", record.partition());
    line.put("offset", record.offset());
    line.put("key", record.key()).put("value", record.value());
    line.set("event", JSON.readTree(record.value()));
    return JSON.writeValueAsString(line);
  }
}
