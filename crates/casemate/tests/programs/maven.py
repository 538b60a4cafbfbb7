"""Makes a Maven repository in a directory: small JARs that javac makes, with transitive dependencies.

maven.py DIRECTORY SPARK_JARS: `demo:app:1.0` is a function for Spark SQL. It needs `demo:left` and `demo:right`, and these need
`demo:base` of two versions. What `demo:right` excludes and what is Spark's own is not there.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile


def dependency(name, exclusion=""):
    group, artifact, version = name.split(":")
    if exclusion:
        group_out, artifact_out = exclusion.split(":")
        exclusion = (
            f"<exclusions><exclusion><groupId>{group_out}</groupId><artifactId>{artifact_out}</artifactId>"
            "</exclusion></exclusions>"
        )
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version>{exclusion}</dependency>"
    )


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_name(path.name + ".sha1").write_text(hashlib.sha1(content).hexdigest())


def publish(repository, name, source, dependencies, class_path):
    """Compiles `source`, (class, text), and writes its JAR with a POM; gives the directory of its classes."""
    group, artifact, version = name.split(":")
    classes = pathlib.Path(tempfile.mkdtemp(dir=work))
    class_name, text = source
    file = classes / f"{class_name}.java"
    file.write_text(f"package {group};\n{text}\n")
    paths = ":".join(map(str, class_path))
    subprocess.run(["javac", "--release", "17", "-cp", paths, "-d", classes, file], check=True)
    jar = classes / "out.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        for found in sorted(classes.rglob("*.class")):
            archive.write(found, found.relative_to(classes))
    place = repository / group / artifact / version
    put(place / f"{artifact}-{version}.jar", jar.read_bytes())
    pom = (
        "<project><modelVersion>4.0.0</modelVersion>"
        f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        f"<dependencies>{''.join(dependencies)}</dependencies></project>"
    )
    put(place / f"{artifact}-{version}.pom", pom.encode())
    return classes


MAIN = """
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.types.DataTypes;

public class Main {
    public static void main(String[] arguments) {
        SparkSession spark = SparkSession.builder().getOrCreate();
        System.out.println("driver: " + Base.greet("driver"));
        spark.udf().register("greet", new App(), DataTypes.StringType);
        for (Row row : spark.range(0, 4, 1, 2).selectExpr("greet(concat('executor ', id))").collectAsList()) {
            System.out.println(row.getString(0));
        }
        spark.stop();
    }
}
"""

repository = pathlib.Path(sys.argv[1])
spark = [f"{sys.argv[2]}/*"]
with tempfile.TemporaryDirectory() as work:
    for version in ["1.0", "2.0"]:
        text = f'public class Base {{ public static String greet(String name) {{ return "hello " + name + " of {version}"; }} }}'
        base = publish(repository, f"demo:base:{version}", ("Base", text), [], [])
    empty = [("Left", "public class Left {}"), ("Right", "public class Right {}")]
    publish(repository, "demo:left:1.0", empty[0], [dependency("demo:base:1.0")], [])
    needs = [dependency("demo:base:2.0"), dependency("demo:more:1.0", "demo:absent")]
    publish(repository, "demo:right:1.0", empty[1], needs, [])
    publish(repository, "demo:more:1.0", ("More", "public class More {}"), [dependency("demo:absent:1.0")], [])
    text = (
        "public class App implements org.apache.spark.sql.api.java.UDF1<String, String> {"
        " public String call(String name) { return Base.greet(name); } }"
    )
    needs = [dependency("demo:left:1.0"), dependency("demo:right:1.0")]
    needs += [dependency("org.apache.spark:spark-sql_2.13:3.5.0"), dependency("org.scala-lang:scala-library:2.13.8")]
    app = publish(repository, "demo:app:1.0", ("App", text), needs, [base, *spark])
    # A job's own program, as it uses the others.
    publish(repository, "demo:main:1.0", ("Main", MAIN), [], [app, base, *spark])
