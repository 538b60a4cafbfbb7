"""Leaves one object a start of user code, so that a job that ran twice is seen; then does a little Spark work."""
import sys
import time
import uuid

from pyspark.sql import SparkSession

bucket, prefix = sys.argv[1], sys.argv[2]
spark = SparkSession.builder.getOrCreate()
path = f"s3a://{bucket}/{prefix}/start-{uuid.uuid4()}"
spark.sparkContext.parallelize([path], 1).saveAsTextFile(path)
for step in range(int(sys.argv[3]) if len(sys.argv) > 3 else 4):
    print("STEP", step, spark.sparkContext.parallelize(range(100), 2).sum(), flush=True)
    time.sleep(0.5)
spark.stop()
