"""One bundle on one video: latency, throughput, memory, soak."""
