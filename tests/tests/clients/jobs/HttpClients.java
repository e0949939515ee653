import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;

/** Java's own HttpClient. */
public class HttpClients {
    static final String NAME = System.getenv("CLIENT");
    static final String AT = System.getenv("SHOP") + "/m/" + NAME;
    static final HttpClient CLIENT =
        HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();

    static HttpRequest.Builder at(String path) {
        return HttpRequest.newBuilder(URI.create(AT + "/" + path));
    }

    static String ask(HttpRequest.Builder request) throws Exception {
        return CLIENT.send(request.build(), BodyHandlers.ofString()).body();
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("get " + ask(at("get")));
        System.out.println("post " + ask(at("post").POST(BodyPublishers.ofString("posted by " + NAME))));
        System.out.println("redirect " + ask(at("redirect")));
        MessageDigest sha = MessageDigest.getInstance("SHA-256");
        try (InputStream body = CLIENT.send(at("download").build(), BodyHandlers.ofInputStream()).body()) {
            byte[] piece = new byte[1 << 18];
            for (int n = body.read(piece); n >= 0; n = body.read(piece)) sha.update(piece, 0, n);
        }
        System.out.println("download " + HexFormat.of().formatHex(sha.digest()));
        var bulk = BodyPublishers.ofFile(Path.of(System.getenv("BULK")));
        System.out.println("upload " + ask(at("upload").PUT(bulk)));
        System.out.println("own " + CLIENT.send(at("own").build(), BodyHandlers.ofString()).version());
    }
}
