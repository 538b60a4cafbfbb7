"""What most jobs begin with, so that its classes are in the engine's class-data archives."""
from xml.etree import ElementTree

from pyspark.sql import SparkSession, functions as F

spark = SparkSession.builder.getOrCreate()
jvm = spark._jvm
context = spark.sparkContext

# RDDs, the Python worker, SQL with a shuffle and a join, and the formats that people use.
assert context.parallelize(range(100), 2).map(lambda n: n + 1).sum() == 5050
left = spark.range(1000).selectExpr("id", "id % 7 as week", "cast(id as string) as name", "current_timestamp() as time")
right = spark.createDataFrame([(n, "day %d" % n) for n in range(7)], ["week", "day"])
joined = left.join(right, "week").groupBy("day").agg(F.count("*").alias("n"), F.avg("id").alias("mean")).orderBy("day")
joined.show()
for kind in ("parquet", "csv", "json"):
    path = "file:///scratch/rehearsal-" + kind
    left.write.mode("overwrite").format(kind).save(path)
    assert spark.read.format(kind).load(path).count() == 1000
print("formats", flush=True)
left.createOrReplaceTempView("rows")
spark.sql("select week, max(id) from rows where name like '1%' group by week").collect()

# S3A up to its first requests; the store of a rehearsal holds nothing.
conf = context._jsc.hadoopConfiguration()
# A class path that archives are made with has no directory, so /conf is not on it now.
for known in ElementTree.parse("/conf/core-site.xml").getroot():
    conf.set(known.findtext("name"), known.findtext("value"))
path = jvm.org.apache.hadoop.fs.Path("s3a://rehearsal/empty")
files = path.getFileSystem(conf)
print("file system", flush=True)
files.create(path).close()
try:
    spark.read.parquet("s3a://rehearsal/absent").count()
except Exception as cause:
    print("absent:", type(cause).__name__)

print("object storage", flush=True)

# The way of a JAR, whose loading differs from a Python program's.
classes = ["org.apache.spark.deploy.JavaMainApplication", "org.apache.spark.util.ChildFirstURLClassLoader",
           "org.apache.spark.api.java.JavaSparkContext", "org.apache.spark.api.java.function.Function",
           "org.apache.spark.executor.ExecutorClassLoader", "org.apache.spark.util.MutableURLClassLoader"]
for name in classes:
    try:
        jvm.java.lang.Class.forName(name, True, jvm.java.lang.Thread.currentThread().getContextClassLoader())
    except Exception:
        print("no class", name)
pairs = jvm.java.util.ArrayList()
for number in range(10):
    pairs.add(number)
assert context._jsc.parallelize(pairs, 2).count() == 10
spark.stop()
print("rehearsed")
