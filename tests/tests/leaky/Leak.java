import java.nio.channels.SocketChannel;
import java.util.ArrayList;

/** Leaks a socket and says so; after a line of input at most 2,000, at 15 a second. */
public class Leak {
    static final ArrayList<SocketChannel> KEPT = new ArrayList<>();

    static void leakHere() throws Exception {
        KEPT.add(SocketChannel.open());
    }

    public static void main(String[] arguments) throws Exception {
        leakHere();
        System.out.println(KEPT.size());
        System.in.read();
        while (KEPT.size() < 2000) {
            leakHere();
            Thread.sleep(66);
        }
        while (System.in.read() >= 0) {}
    }
}
