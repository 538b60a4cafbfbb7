"""Leaves one object at the start of user code, does a little work, and leaves another one as the last thing it does: what
of the two is there says what became of this start, whatever the service says. The first argument is the bucket, the
second the name, the third how many steps of half a second."""
import sys
import time
import uuid

from pyspark.sql import SparkSession

bucket, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
spark = SparkSession.builder.getOrCreate()
context, start = spark.sparkContext, uuid.uuid4()


def leave(what):
    path = context._jvm.org.apache.hadoop.fs.Path(f"s3a://{bucket}/{name}/{start}.{what}")
    stream = path.getFileSystem(context._jsc.hadoopConfiguration()).create(path, False)
    stream.write(bytearray(str(start).encode()))
    stream.close()


leave("started")
for step in range(steps):
    print("STEP", step, spark.range(1000).selectExpr("sum(id)").first()[0], flush=True)
    time.sleep(0.5)
leave("done")
