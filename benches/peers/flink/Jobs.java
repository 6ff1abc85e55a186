// The throughput jobs on Flink's DataStream API, in one process: the same events, answers and checksums as in
// benches/src/generator.rs. Prints a line of JSON for each run; the time is the job's own, without the start of
// the JVM and of the cluster within it.
//
// Arguments: job, parallelism, events (or the path of the text), keys, panes, runs.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;

import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.functions.source.legacy.RichParallelSourceFunction;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

public final class Jobs {
    static final LongAdder ROWS = new LongAdder(), RECORDS = new LongAdder(), CHECKSUM = new LongAdder();
    static final Map<String, Long> WORDS = new ConcurrentHashMap<>();

    static long splitmix64(long number) {
        long z = number + 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    /** The upper half of the product of two unsigned numbers. */
    static long key(long index, long keys) {
        long scrambled = splitmix64(index);
        return Math.multiplyHigh(scrambled, keys) + (keys & (scrambled >> 63));
    }

    static void row(long key, long window, long count) {
        ROWS.increment();
        RECORDS.add(count);
        CHECKSUM.add(splitmix64(key ^ splitmix64(window ^ splitmix64(count))));
    }

    /** A share of the events, in order, with a watermark after every 8192. */
    public static final class Events extends RichParallelSourceFunction<Long> {
        private final long events, keys;

        Events(long events, long keys) {
            this.events = events;
            this.keys = keys;
        }

        @Override
        public void run(SourceContext<Long> context) {
            long first = getRuntimeContext().getTaskInfo().getIndexOfThisSubtask();
            long peers = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
            long since = 0;
            for (long index = first; index < events; index += peers) {
                context.collectWithTimestamp(key(index, keys), index);
                if (++since % 8192 == 0) {
                    context.emitWatermark(new Watermark(index));
                }
            }
        }

        @Override
        public void cancel() {}
    }

    public static final class Count implements AggregateFunction<Long, Long, Long> {
        @Override public Long createAccumulator() { return 0L; }
        @Override public Long add(Long value, Long sum) { return sum + 1; }
        @Override public Long getResult(Long sum) { return sum; }
        @Override public Long merge(Long a, Long b) { return a + b; }
    }

    public static final class Row implements WindowFunction<Long, Tuple3<Long, Long, Long>, Long, TimeWindow> {
        @Override
        public void apply(Long key, TimeWindow window, Iterable<Long> counts, Collector<Tuple3<Long, Long, Long>> out) {
            out.collect(Tuple3.of(key, window.getStart(), counts.iterator().next()));
        }
    }

    public static final class Split implements FlatMapFunction<String, Tuple2<String, Long>> {
        @Override
        public void flatMap(String line, Collector<Tuple2<String, Long>> out) {
            for (String word : line.split("\\s+")) {
                if (!word.isEmpty()) {
                    out.collect(Tuple2.of(word, 1L));
                }
            }
        }
    }

    static void windowed(StreamExecutionEnvironment env, WindowAssigner<Object, TimeWindow> windows, long events, long keys) {
        env.addSource(new Events(events, keys), Types.LONG)
            .keyBy(key -> key, Types.LONG)
            .window(windows)
            .aggregate(new Count(), new Row(), Types.LONG, Types.TUPLE(Types.LONG, Types.LONG, Types.LONG))
            .map(row -> {
                row(row.f0, row.f1, row.f2);
                return row.f0;
            }, Types.LONG)
            .sinkTo(new DiscardingSink<>());
    }

    static void wordCount(StreamExecutionEnvironment env, String path) {
        DataStream<String> lines = env.fromSource(
            FileSource.forRecordStreamFormat(new TextLineInputFormat(), new Path(path)).build(),
            WatermarkStrategy.noWatermarks(), "lines");
        lines.flatMap(new Split())
            .returns(Types.TUPLE(Types.STRING, Types.LONG))
            .keyBy(word -> word.f0, Types.STRING)
            .sum(1)
            .map(word -> {
                WORDS.put(word.f0, word.f1);
                return 0L;
            }, Types.LONG)
            .sinkTo(new DiscardingSink<>());
    }

    static Duration millis(long n) {
        return Duration.ofMillis(n);
    }

    public static void main(String[] arguments) throws Exception {
        String job = arguments[0];
        int parallelism = Integer.parseInt(arguments[1]);
        long keys = Long.parseLong(arguments[3]), panes = Long.parseLong(arguments[4]);
        int runs = Integer.parseInt(arguments[5]);
        boolean text = job.equals("word-count");
        long events = text ? 0 : Long.parseLong(arguments[2]);
        // The first run warms up the JVM's compiler and is not said.
        for (int run = 0; run <= runs; run++) {
            ROWS.reset();
            RECORDS.reset();
            CHECKSUM.reset();
            WORDS.clear();
            Configuration settings = new Configuration();
            settings.set(TaskManagerOptions.NETWORK_MEMORY_MIN, MemorySize.ofMebiBytes(256));
            settings.set(TaskManagerOptions.NETWORK_MEMORY_MAX, MemorySize.ofMebiBytes(256));
            StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(parallelism, settings);
            env.getConfig().enableObjectReuse();
            if (text) {
                wordCount(env, arguments[2]);
            } else if (job.startsWith("windowed")) {
                windowed(env, (WindowAssigner) TumblingEventTimeWindows.of(millis((events + 9) / 10)), events, keys);
            } else if (job.startsWith("sliding")) {
                long slide = (events + 119) / 120;
                windowed(env, (WindowAssigner) SlidingEventTimeWindows.of(millis(slide * panes), millis(slide)), events, keys);
            } else {
                windowed(env, (WindowAssigner) EventTimeSessionWindows.withGap(millis(4 * keys)), events, keys);
            }
            // The job's own time: that of `execute` begins with the start of a cluster in this process.
            double seconds = env.execute(job).getNetRuntime() / 1e3;
            if (text) {
                WORDS.forEach((word, count) -> {
                    long hash = 0xCBF29CE484222325L;
                    for (byte b : word.getBytes(StandardCharsets.UTF_8)) {
                        hash = (hash ^ (b & 0xFF)) * 0x00000100000001B3L;
                    }
                    ROWS.increment();
                    RECORDS.add(count);
                    CHECKSUM.add(splitmix64(hash ^ splitmix64(count)));
                });
            }
            if (run > 0) {
                System.out.printf(
                    "{\"engine\":\"flink\",\"job\":\"%s\",\"workers\":%d,\"records\":%d,\"seconds\":%.4f,"
                        + "\"answer\":{\"rows\":%d,\"records\":%d,\"checksum\":%s}}%n",
                    job, parallelism, text ? RECORDS.sum() : events, seconds, ROWS.sum(), RECORDS.sum(),
                    Long.toUnsignedString(CHECKSUM.sum()));
            }
        }
    }
}
