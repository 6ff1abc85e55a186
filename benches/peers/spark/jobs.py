"""The throughput jobs on Spark Structured Streaming (micro-batch, local mode): the same events, answers and checksums as in
benches/src/generator.rs. Prints a line of JSON for each run; the time is from the query's start to the end of the batch that
completes the answer, without the start of the process or of the session.

Everything a record goes through is in Spark's own expressions, so that its code generation applies; Python sees a row a batch.

Arguments: job, cores, events (or the directory with the text), keys, panes, runs.
"""

import json
import shutil
import sys
import tempfile
import threading
import time

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

MASK = (1 << 64) - 1
BATCHES = 10


def signed(number):
    return number - (1 << 64) if number >= 1 << 63 else number


def mix(number):
    """splitmix64 of a Python number."""
    z = (number + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def splitmix64(column):
    """splitmix64 of a column; sums and products wrap."""
    shifted = lambda z, by: z.bitwiseXOR(f.shiftrightunsigned(z, by))
    z = column + f.lit(signed(0x9E3779B97F4A7C15))
    z = shifted(z, 30) * f.lit(signed(0xBF58476D1CE4E5B9))
    z = shifted(z, 27) * f.lit(signed(0x94D049BB133111EB))
    return shifted(z, 31)


def key(index, keys):
    """The upper half of a product of 128 bits, by parts; `keys` has less than 32 bits."""
    z = f.col("z")
    high = f.shiftrightunsigned(z, 32) * keys
    low = f.shiftrightunsigned(z.bitwiseAND(f.lit(0xFFFFFFFF)) * keys, 32)
    return f.shiftrightunsigned(high + low, 32)


def run_query(query_of, complete):
    """Runs a query batch by batch until `complete`, which is given each batch's rows; returns the seconds."""
    checkpoint = tempfile.mkdtemp(prefix="spark-checkpoint-")
    done, failed = threading.Event(), []

    def batch(rows, _):
        try:
            if complete(rows):
                done.set()
        except Exception as error:  # The query would swallow where it came from.
            failed.append(error)
            done.set()

    start = time.perf_counter()
    query = query_of().option("checkpointLocation", checkpoint).foreachBatch(batch).start()
    while not done.wait(0.5):
        if not query.isActive:
            if query.exception() is not None:
                raise RuntimeError(str(query.exception()))
            break
    seconds = time.perf_counter() - start
    query.stop()
    shutil.rmtree(checkpoint, ignore_errors=True)
    if failed:
        raise failed[0]
    return seconds


def windowed(spark, job, cores, events, keys, panes):
    micros = lambda n: f"{n} microseconds"
    per_batch = -(-events // BATCHES)
    source = (
        spark.readStream.format("rate-micro-batch")
        .option("rowsPerBatch", per_batch)
        .option("numPartitions", cores)
        .option("startTimestamp", 0)
        .option("advanceMillisPerBatch", 1)
        .load()
    )
    # What comes after the last event, one of a thousand, only moves the watermark.
    stream = (
        source.select(f.col("value").alias("index"))
        .where((f.col("index") < events) | (f.col("index") % 1000 == 0))
        .withColumn("time", f.timestamp_micros("index"))
        .withColumn("z", splitmix64(f.col("index")))
        .withColumn("key", f.when(f.col("index") < events, key("index", keys)).otherwise(f.lit(-1)))
        .withWatermark("time", "0 seconds")
    )
    if job.startswith("windowed"):
        window = f.window("time", micros(-(-events // 10)))
        total = events
    elif job.startswith("sliding"):
        slide = -(-events // 120)
        window = f.window("time", micros(slide * panes), micros(slide))
        total = events * panes
    else:
        window = f.session_window("time", micros(4 * keys))
        total = events
    counts = stream.groupBy(window.alias("window"), "key").count()
    start = f.unix_micros("window.start")
    row = splitmix64(f.col("key").bitwiseXOR(splitmix64(start.bitwiseXOR(splitmix64(f.col("count"))))))
    answer = {"rows": 0, "records": 0, "checksum": 0}

    def complete(rows):
        # Here, and not in the query: there it would be applied before the watermark sees the rows that move it.
        sums = rows.where("key >= 0").agg(f.count("*"), f.sum("count"), f.sum(row)).first()
        answer["rows"] += sums[0]
        answer["records"] += sums[1] or 0
        answer["checksum"] = (answer["checksum"] + (sums[2] or 0)) & MASK
        return answer["records"] >= total

    seconds = run_query(lambda: counts.writeStream.outputMode("append"), complete)
    return events, seconds, answer


def word_count(spark, directory):
    lines = spark.readStream.text(directory)
    words = lines.select(f.explode(f.split("value", r"\s+")).alias("word")).where("word != ''")
    counts = words.groupBy("word").count()
    found = []

    def complete(rows):
        found[:] = rows.collect()
        return False

    seconds = run_query(
        lambda: counts.writeStream.outputMode("complete").trigger(availableNow=True), complete
    )
    answer = {"rows": len(found), "records": 0, "checksum": 0}
    for word, count in found:
        hashed = 0xCBF29CE484222325
        for byte in word.encode():
            hashed = ((hashed ^ byte) * 0x100000001B3) & MASK
        answer["records"] += count
        answer["checksum"] = (answer["checksum"] + mix(hashed ^ mix(count))) & MASK
    return answer["records"], seconds, answer


def main():
    job, cores, source, keys, panes, runs = sys.argv[1:]
    cores, keys, panes, runs = int(cores), int(keys), int(panes), int(runs)
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.sql.ansi.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", cores)
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("OFF")
    # The first run warms up the JVM's compiler and is not said.
    for run in range(runs + 1):
        if job == "word-count":
            records, seconds, answer = word_count(spark, source)
        else:
            records, seconds, answer = windowed(spark, job, cores, int(source), keys, panes)
        if run > 0:
            line = {"engine": "spark", "job": job, "workers": cores, "records": records}
            print(json.dumps({**line, "seconds": round(seconds, 4), "answer": answer}), flush=True)
    spark.stop()


main()
