"""How much later do the carriers leave when it rains? Joins flights with the weather of their hour and the names of
their carriers, and writes the answer as Parquet. Nothing here is about Casemate: buckets are at `s3a://`.

Usage: flights.py BUCKET
"""
import sys

from pyspark.sql import SparkSession, functions as f

bucket = sys.argv[1]
spark = SparkSession.builder.appName("delays").getOrCreate()


def table(name):
    return spark.read.parquet(f"s3a://{bucket}/data/{name}.parquet")


flights = table("flights").where("dep_delay is not null")
weather = table("weather").dropDuplicates(["origin", "year", "month", "day", "hour"])
print(f"flights that left: {flights.count():,}")

hours = flights.join(weather.drop("time_hour"), ["origin", "year", "month", "day", "hour"])
wet = f.col("precip") > 0
delays = (
    hours.groupBy("carrier")
    .agg(
        f.count("*").alias("flights"),
        f.round(f.avg(f.when(~wet, f.col("dep_delay"))), 1).alias("delay_dry"),
        f.round(f.avg(f.when(wet, f.col("dep_delay"))), 1).alias("delay_wet"),
    )
    .where("delay_wet is not null")
    .join(table("carriers"), "carrier")
    .select("name", "flights", "delay_dry", "delay_wet", f.round(f.col("delay_wet") - f.col("delay_dry"), 1).alias("rain_costs"))
    .orderBy(f.desc("rain_costs"))
)
delays.coalesce(1).write.mode("overwrite").parquet(f"s3a://{bucket}/results/delays")
print(f"written to s3a://{bucket}/results/delays")
spark.stop()
