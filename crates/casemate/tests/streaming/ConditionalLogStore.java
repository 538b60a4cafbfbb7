import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.util.Iterator;
import java.util.UUID;

import com.amazonaws.SdkClientException;
import com.amazonaws.auth.AWSStaticCredentialsProvider;
import com.amazonaws.auth.BasicAWSCredentials;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.s3.AmazonS3;
import com.amazonaws.services.s3.AmazonS3ClientBuilder;
import com.amazonaws.services.s3.model.AmazonS3Exception;
import com.amazonaws.services.s3.model.ObjectMetadata;
import com.amazonaws.services.s3.model.PutObjectRequest;
import io.delta.storage.HadoopFileSystemLogStore;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

/**
 * A Delta log that several drivers may write at once, on any S3 with conditional writes: a version of the table is a PUT with
 * If-None-Match, and belongs to whoever comes first. For Spark 3.5, whose S3A cannot ask for that itself.
 */
public final class ConditionalLogStore extends HadoopFileSystemLogStore {
    private static final String WRITE_ID = "write-id";

    private final AmazonS3 client;

    public ConditionalLogStore(Configuration conf) {
        super(conf);
        client = AmazonS3ClientBuilder.standard()
            .withEndpointConfiguration(
                new EndpointConfiguration(conf.get("fs.s3a.endpoint"), conf.get("fs.s3a.endpoint.region")))
            .withPathStyleAccessEnabled(true)
            .withCredentials(new AWSStaticCredentialsProvider(
                new BasicAWSCredentials(conf.get("fs.s3a.access.key"), conf.get("fs.s3a.secret.key"))))
            .build();
    }

    @Override
    public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration conf) throws IOException {
        ByteArrayOutputStream lines = new ByteArrayOutputStream();
        while (actions.hasNext()) {
            lines.write((actions.next() + "\n").getBytes(StandardCharsets.UTF_8));
        }
        String bucket = path.toUri().getHost();
        String key = path.toUri().getPath().substring(1);
        String id = UUID.randomUUID().toString();
        ObjectMetadata metadata = new ObjectMetadata();
        metadata.setContentLength(lines.size());
        metadata.addUserMetadata(WRITE_ID, id);
        PutObjectRequest put =
            new PutObjectRequest(bucket, key, new ByteArrayInputStream(lines.toByteArray()), metadata);
        if (!overwrite) {
            put.putCustomRequestHeader("If-None-Match", "*");
        }
        try {
            client.putObject(put);
        } catch (AmazonS3Exception refused) {
            if (overwrite || (refused.getStatusCode() != 412 && refused.getStatusCode() != 409)) {
                throw new IOException(path.toString(), refused);
            }
            // The SDK tries again where an answer was lost: what is in the way may be our own.
            if (!id.equals(client.getObjectMetadata(bucket, key).getUserMetaDataOf(WRITE_ID))) {
                System.out.println("LOST " + path.getName());
                throw new FileAlreadyExistsException(path.toString());
            }
        } catch (SdkClientException failed) {
            throw new IOException(path.toString(), failed);
        }
    }

    @Override
    public Boolean isPartialWriteVisible(Path path, Configuration conf) {
        return false;
    }
}
