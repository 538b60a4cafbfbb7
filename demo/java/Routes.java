import static org.apache.spark.sql.functions.avg;
import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.count;
import static org.apache.spark.sql.functions.desc;
import static org.apache.spark.sql.functions.lit;
import static org.apache.spark.sql.functions.round;

import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SaveMode;
import org.apache.spark.sql.SparkSession;

/** The ten busiest routes, and how late they arrive. Takes the bucket of the data as its argument. */
public final class Routes {
    private Routes() {
    }

    public static void main(String[] arguments) {
        String bucket = arguments[0];
        SparkSession spark = SparkSession.builder().appName("routes").getOrCreate();
        Dataset<Row> flights = spark.read().parquet("s3a://" + bucket + "/data/flights.parquet");
        Dataset<Row> routes = flights
                .groupBy("origin", "dest")
                .agg(count(lit(1)).as("flights"), round(avg("arr_delay"), 1).as("arrival_delay"), avg("distance").cast("int").as("miles"))
                .orderBy(desc("flights"), col("dest"))
                .limit(10);
        routes.coalesce(1).write().mode(SaveMode.Overwrite).parquet("s3a://" + bucket + "/results/routes");
        System.out.println("the busiest route: " + routes.first());
        spark.stop();
    }
}
