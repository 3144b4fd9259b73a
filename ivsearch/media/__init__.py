"""Path → Media → Frames. The only home of PyAV; knows nothing of models or storage.

::

    suffixes     file names worth opening
    scan         roots → Found | Skipped
    fingerprint  content → MediaId
    probe        path → Media, from the header and the first picture
    sample       path → Frames at a rate, by true presentation times
    pool         the same in worker processes, gated, with thumbnails; the way ingest reads files

    container    opening a video file            decode    packets → pictures
    grid         the grid of sampling times      gops      which packets must be decoded at all
    straight     sampling that decodes all       colour    pictures → sRGB pixels
    still        pictures and animations         gate      near-identical pictures
    excerpt      path → the Frames shown at given times, by seeking
    extract      a span as a file of its own       reencode  the same, exact to the picture
    thumbnail    small JPEGs                     faults    errors in plain words
    events, channel, worker                      the parts of pool

Importing this package imports nothing heavy.
"""
