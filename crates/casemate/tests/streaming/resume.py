"""Reads the files of a bucket as a stream, drops what it has seen before, and appends the rest. Its checkpoint is in the
bucket too: a start goes on where the last one was ended, however it was ended."""
import sys

from pyspark.sql import SparkSession

bucket = sys.argv[1]
spark = SparkSession.builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
lines = spark.readStream.option("maxFilesPerTrigger", 1).text(f"s3a://{bucket}/in")
query = (
    lines.dropDuplicates(["value"])
    .writeStream.format("text")
    .option("path", f"s3a://{bucket}/out")
    .option("checkpointLocation", f"s3a://{bucket}/checkpoint")
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
for progress in query.recentProgress:
    print("BATCH", progress["batchId"], flush=True)
print("ROWS", spark.read.text(f"s3a://{bucket}/out").count(), flush=True)
spark.stop()
