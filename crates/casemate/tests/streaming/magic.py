"""Writes a table by whatever committer the properties name, and reads it again. With a third argument the last task goes
on for ever once its file is being written."""
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql.functions import udf

path, rows = sys.argv[1], int(sys.argv[2])
spark = SparkSession.builder.getOrCreate()
table = spark.range(0, rows, 1, 2).selectExpr("id", "sha2(cast(id as string), 512) as digest")
if len(sys.argv) > 3:

    @udf("boolean")
    def stays(number):
        while number == rows - 1:
            time.sleep(1)
        return True

    table = table.where(stays("id"))
table.write.mode("overwrite").parquet(path)
written = spark.read.parquet(path)
print("ROWS", written.count(), written.select("digest").distinct().count(), flush=True)
spark.stop()
