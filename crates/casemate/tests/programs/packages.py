"""Uses classes of Maven packages, in the driver and in executors."""

from pyspark.sql import SparkSession
from pyspark.sql.types import StringType

spark = SparkSession.builder.getOrCreate()
print("driver:", spark._jvm.demo.Base.greet("driver"))
spark.udf.registerJavaFunction("greet", "demo.App", StringType())
for row in spark.range(0, 4, 1, 2).selectExpr("greet(concat('executor ', id))").collect():
    print(row[0])
spark.stop()
