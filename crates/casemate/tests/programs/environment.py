"""Uses a module that neither Spark nor the machine has, in the driver and in an executor."""

import sys

import greeting
from pyspark.sql import SparkSession


def greet(name):
    import greeting

    return f"{greeting.greet(name)} by {sys.executable}"


spark = SparkSession.builder.getOrCreate()
print("driver:", greet("driver"))
print("executor:", spark.sparkContext.parallelize(["executor"], 1).map(greet).collect()[0])
spark.stop()
