package org.apache.spark.casemate

import java.io.{BufferedInputStream, FileInputStream}
import java.lang.reflect.InvocationTargetException
import java.nio.charset.StandardCharsets.UTF_8
import java.util.Properties

import org.apache.hadoop.conf.Configuration
import org.apache.spark.sql.SparkSession

/** A JVM that is started before its job is there. It rehearses, says "ready", reads one line from the pipe that its only
  * argument names, and becomes what the line says; that once. The line: how many words follow, how many of them are
  * properties, these as NAME=VALUE, the main class, its arguments; each word after the first behind a NUL.
  */
object Waiting {
  def main(arguments: Array[String]): Unit = {
    val before = System.getProperties.clone().asInstanceOf[Properties]
    // In a thread of its own: what it inherits to threads must not reach those of the job.
    val rehearsal = new Thread(() => rehearse(), "rehearsal")
    var failure: Option[Throwable] = None
    rehearsal.setUncaughtExceptionHandler((_, cause) => failure = Some(cause))
    rehearsal.start()
    rehearsal.join()
    failure.foreach(cause => throw cause)
    System.setProperties(before)
    System.gc()
    System.out.println("ready")
    System.out.flush()
    become(read(arguments(0)))
  }

  /** A session as a job makes it, without the network: what is loaded and compiled for it stays, it does not. */
  private def rehearse(): Unit = {
    val session = SparkSession
      .builder()
      .master("local[2]")
      .appName("rehearsal")
      .config("spark.driver.host", "127.0.0.1")
      .config("spark.driver.bindAddress", "127.0.0.1")
      .config("spark.ui.enabled", "false")
      .config("spark.sql.shuffle.partitions", "2")
      .config("spark.sql.warehouse.dir", "/scratch/rehearsal")
      // Its pool of threads would outlive the session and inherit from it.
      .config("spark.sql.adaptive.enabled", "false")
      .getOrCreate()
    try {
      session.range(0, 100, 1, 2).selectExpr("id % 7 as k").groupBy("k").count().collect()
      session.sparkContext.parallelize(1 to 100, 2).map(n => (n % 7, n)).reduceByKey(_ + _).collect()
    } finally session.stop()
    SparkSession.clearActiveSession()
    SparkSession.clearDefaultSession()
  }

  private def read(pipe: String): Array[String] = {
    val line = new BufferedInputStream(new FileInputStream(pipe))
    val words = try new String(line.readAllBytes(), UTF_8).split("\u0000", -1) finally line.close()
    // Of a line that broke off nothing is done.
    if (words.length < 3 || words(0) != (words.length - 1).toString) sys.exit(1)
    words.drop(1)
  }

  private def become(words: Array[String]): Unit = {
    val count = words(0).toInt
    for (property <- words.slice(1, 1 + count)) {
      val Array(name, value) = property.split("=", 2)
      System.setProperty(name, value)
    }
    // Hadoop's configurations that the rehearsal made learn of the job's core-site.xml.
    Configuration.reloadExistingConfigurations()
    val main = Class.forName(words(1 + count)).getMethod("main", classOf[Array[String]])
    try main.invoke(null, words.drop(2 + count))
    catch { case failure: InvocationTargetException => throw failure.getCause }
  }
}
