"""Appends to a Delta table, a commit at a time, at the same time as other writers; then the first of them says what is in
the table."""
import sys
import time

from pyspark.sql import SparkSession

number, writers, bucket, commits, rows = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
spark = SparkSession.builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
table = f"s3a://{bucket}/table"


def append(start, count, said):
    rows = spark.range(start, start + count, 1, 1).selectExpr("id", f"{number} as writer")
    rows.write.format("delta").mode("append").option("userMetadata", said).save(table)


def meet(name):
    """Waits until every writer is here, two minutes at most."""
    path = spark._jvm.org.apache.hadoop.fs.Path(f"s3a://{bucket}/{name}/{number}")
    files = path.getFileSystem(spark._jsc.hadoopConfiguration())
    files.create(path).close()
    limit = time.monotonic() + 120
    while len(files.listStatus(path.getParent())) < writers:
        if time.monotonic() > limit:
            sys.exit(f"not all writers came to {name}")
        time.sleep(0.1)


if number == 0:
    append(0, 0, "made")
for commit in range(commits):
    # Side by side, from the same version of the table: only one of them can have the next.
    meet(f"round-{commit}")
    append((number * commits + commit) * rows, rows, f"{number}-{commit}")
meet("end")
if number == 0:
    found = spark.read.format("delta").load(table)
    history = spark.sql(f"DESCRIBE HISTORY delta.`{table}`").count()
    print("ROWS", found.count(), "DISTINCT", found.select("id").distinct().count(), "COMMITS", history, flush=True)
spark.stop()
