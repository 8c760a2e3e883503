"""What bench/run is made of. bench/README.md says what is measured and why.

A load (`catalogue`) is run in interleaved rounds (`rounds`) against proxies (`proxies`), each a pinned process
(`processes`) driven by a client (`clients`, `idle`); what it cost comes from the kernel (`cost`), goes to raw.csv as it
is measured (`results`), and is told in the end (`statistic`, `targets`, `summary`, `plots`).
"""
