import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.sql.SparkSession;

/** The smallest job that uses an executor: a sum over two partitions. */
public final class Trivial {
    public static void main(String[] arguments) {
        SparkSession spark = SparkSession.builder().appName("trivial").getOrCreate();
        JavaSparkContext context = JavaSparkContext.fromSparkContext(spark.sparkContext());
        List<Integer> numbers = IntStream.rangeClosed(1, 100).boxed().collect(Collectors.toList());
        System.out.println("SUM " + context.parallelize(numbers, 2).reduce(Integer::sum));
        System.out.println("ARGUMENTS " + String.join("|", arguments));
        spark.stop();
    }
}
