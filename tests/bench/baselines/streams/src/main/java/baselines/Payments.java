package baselines;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.zip.CRC32;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The job as a Kafka Streams topology: exactly-once v2, ids in a RocksDB store with a changelog. */
public final class Payments {
  private static final Map<String, String> ENV = System.getenv();
  private static final Set<String> CURRENCIES =
      Set.of("USD", "EUR", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "PLN", "CAD");
  private static final BigDecimal MOST = BigDecimal.valueOf(1_000_000_000_000L);
  private static final String SEEN = "seen";
  private static final byte[] YES = {1};
  private static final ObjectMapper JSON = new ObjectMapper();

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Request(
      String paymentId,
      String userId,
      BigDecimal amount,
      String currency,
      String paymentMethod,
      JsonNode metadata) {}

  record Source(String topic, int partition, long offset) {}

  record Problem(String code, String message, boolean retryable) {}

  @JsonInclude(JsonInclude.Include.NON_NULL)
  record Event(
      String eventId,
      String eventType,
      String paymentId,
      String userId,
      BigDecimal amount,
      String currency,
      String paymentMethod,
      JsonNode metadata,
      String gatewayReference,
      Problem error,
      String processedAt,
      String failedAt,
      String occurredAt,
      Source source) {}

  /** Decides each request, and forwards its events to the sinks of their topics. */
  static final class Decide implements Processor<byte[], byte[], byte[], byte[]> {
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> seen;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      this.seen = context.getStateStore(SEEN);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      RecordMetadata at = context.recordMetadata().orElseThrow();
      Source source = new Source(at.topic(), at.partition(), at.offset());
      String id = at.topic() + "/" + at.partition() + "/" + at.offset();
      String now = Instant.now().toString();
      Request request;
      String why;
      try {
        request = JSON.readValue(record.value(), Request.class);
        why = problem(request);
      } catch (IOException | IllegalArgumentException error) {
        request = null;
        why = "the record is not a request";
      }
      if (why != null) {
        String paymentId = request == null ? null : request.paymentId();
        Problem error = new Problem("invalid", why, false);
        forward(record, failed(id, paymentId, request, error, now, source), "failed");
        forward(record, audit(id, "payment.failed", paymentId, null, error, now, source), "audit");
        return;
      }
      byte[] key = request.paymentId().getBytes(StandardCharsets.UTF_8);
      if (seen.putIfAbsent(key, YES) != null) {
        Event event = audit(id, "payment.duplicate", request.paymentId(), null, null, now, source);
        forward(record, event, "audit");
        return;
      }
      CRC32 checksum = new CRC32();
      checksum.update(key);
      if (checksum.getValue() % 100 < 2) {
        Problem error = new Problem("declined", "The payment was declined.", false);
        forward(record, failed(id, request.paymentId(), request, error, now, source), "failed");
        Event event =
            audit(id, "payment.failed", request.paymentId(), null, error, now, source);
        forward(record, event, "audit");
        return;
      }
      String reference = "sim_" + Long.toHexString(checksum.getValue());
      forward(record, processed(id, request, reference, now, source), "processed");
      Event event =
          audit(id, "payment.processed", request.paymentId(), reference, null, now, source);
      forward(record, event, "audit");
    }

    private void forward(Record<byte[], byte[]> record, Event event, String sink) {
      try {
        context.forward(record.withValue(JSON.writeValueAsBytes(event)), sink);
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
    }
  }

  private static String problem(Request request) {
    if (!isText(request.paymentId())) return "paymentId: must be a string of 1 to 255 characters";
    if (!isText(request.userId())) return "userId: must be a string of 1 to 255 characters";
    if (!isText(request.paymentMethod())) return "paymentMethod: must be 1 to 255 characters";
    BigDecimal amount = request.amount();
    if (amount == null || amount.signum() <= 0 || amount.compareTo(MOST) >= 0) {
      return "amount: must be above 0";
    }
    return CURRENCIES.contains(String.valueOf(request.currency()))
        ? null
        : "currency: must be an ISO 4217 code";
  }

  private static boolean isText(String text) {
    return text != null && !text.isEmpty() && text.length() <= 255;
  }

  private static Event processed(
      String id, Request request, String reference, String now, Source source) {
    return new Event(
        id, "payment.processed", request.paymentId(), request.userId(), request.amount(),
        request.currency(), request.paymentMethod(), request.metadata(), reference, null, now,
        null, null, source);
  }

  private static Event failed(
      String id, String paymentId, Request request, Problem error, String now, Source source) {
    return request == null
        ? new Event(
            id, "payment.failed", null, null, null, null, null, null, null, error, null, now, null,
            source)
        : new Event(
            id, "payment.failed", paymentId, request.userId(), request.amount(),
            request.currency(), request.paymentMethod(), request.metadata(), null, error, null,
            now, null, source);
  }

  private static Event audit(
      String id, String type, String paymentId, String reference, Problem error, String now,
      Source source) {
    return new Event(
        id, type, paymentId, null, null, null, null, null, reference, error, null, null, now,
        source);
  }

  static Topology topology() {
    Topology topology = new Topology();
    topology.addSource("requested", ENV.get("BENCH_REQUESTED"));
    topology.addProcessor("decide", Decide::new, "requested");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore(SEEN), Serdes.ByteArray(), Serdes.ByteArray()),
        "decide");
    topology.addSink("processed", ENV.get("BENCH_PROCESSED"), "decide");
    topology.addSink("failed", ENV.get("BENCH_FAILED"), "decide");
    topology.addSink("audit", ENV.get("BENCH_AUDIT"), "decide");
    return topology;
  }

  public static void main(String[] args) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, ENV.get("BENCH_GROUP"));
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, ENV.get("BENCH_BROKERS"));
    settings.put(StreamsConfig.STATE_DIR_CONFIG, ENV.get("BENCH_STATE"));
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(
        StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class.getName());
    settings.put(
        StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class.getName());
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    KafkaStreams streams = new KafkaStreams(topology(), settings);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler
              .StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private Payments() {}
}
