package org.apache.kafka.common.utils;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Supplier;

import org.apache.kafka.common.errors.TimeoutException;

/**
 * Stands in for Kafka's class of this name, so that a test can move a broker's clock over midnights in seconds.
 *
 * <p>The system property {@code twofold.clock} names a file that holds how many milliseconds the clock is ahead; it is
 * read again every 20 ms, and no file or no property means the real time. Only {@code milliseconds()} moves, which is
 * what records are stamped with; timers run on {@code nanoseconds()} and stay real. The clock never goes back: Kafka's
 * log and indexes take growing append times for granted.
 */
class SystemTime implements Time {
    private static final SystemTime SYSTEM_TIME = new SystemTime();
    private static final long READ_EVERY_MS = 20;

    private volatile long aheadMs = 0;

    public static SystemTime getSystemTime() {
        return SYSTEM_TIME;
    }

    private SystemTime() {
        String file = System.getProperty("twofold.clock");
        if (file == null) {
            return;
        }
        Path path = Path.of(file);
        // Before anybody asks for the time: a broker that comes back after a shift must not stamp one record with the old time.
        follow(path);
        Thread reader = new Thread(() -> {
            while (true) {
                follow(path);
                sleep(READ_EVERY_MS);
            }
        }, "twofold-clock");
        reader.setDaemon(true);
        reader.start();
    }

    private void follow(Path path) {
        try {
            aheadMs = Math.max(aheadMs, Long.parseLong(Files.readString(path).trim()));
        } catch (IOException | NumberFormatException e) {
            // No shift asked for yet. The harness replaces the file as a whole, so there are no half-written numbers.
        }
    }

    @Override
    public long milliseconds() {
        return System.currentTimeMillis() + aheadMs;
    }

    @Override
    public long nanoseconds() {
        return System.nanoTime();
    }

    @Override
    public void sleep(long ms) {
        Utils.sleep(ms);
    }

    @Override
    public void waitObject(Object obj, Supplier<Boolean> condition, long deadlineMs) throws InterruptedException {
        synchronized (obj) {
            while (!condition.get()) {
                long nowMs = milliseconds();
                if (nowMs >= deadlineMs) {
                    throw new TimeoutException("Condition not satisfied before deadline");
                }
                obj.wait(deadlineMs - nowMs);
            }
        }
    }
}
