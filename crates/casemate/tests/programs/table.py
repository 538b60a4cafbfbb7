"""Writes and reads a Parquet table in the project's own bucket, with no configuration of its own."""
import sys

from pyspark.sql import SparkSession

bucket, rows = sys.argv[1], int(sys.argv[2])
spark = SparkSession.builder.appName("table").getOrCreate()
spark.range(rows).selectExpr("id", "id % 7 as week").write.mode("overwrite").parquet(f"s3a://{bucket}/table")
table = spark.read.parquet(f"s3a://{bucket}/table")
print("ROWS", table.count())
print("WEEKS", sorted(row["week"] for row in table.groupBy("week").count().collect()))
print("VERSION", spark.version)
print("ARGUMENTS", sys.argv[1:])
spark.stop()
