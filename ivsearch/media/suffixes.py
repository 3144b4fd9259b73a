"""Which file names are worth opening in a folder. A file named directly is opened whatever its name."""

from __future__ import annotations


def _suffixes(text: str) -> frozenset[str]:
    return frozenset("." + word for word in text.split())


VIDEO = _suffixes(
    """
    264 265 3g2 3gp amv asf avi divx dv f4v flv h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg mkv mod mov mp4 mpe
    mpeg mpg mpv mts mxf nut obu ogm ogv qt rm rmvb tod ts vob webm wmv y4m
    """
)
IMAGE = _suffixes(
    "apng avif avifs bmp dib gif heic heif jfif jp2 jpe jpeg jpg mpo pbm pgm png pnm ppm tga tif tiff webp"
)
AUDIO = _suffixes("aac aif aiff flac m4a mka mp2 mp3 oga ogg opus wav weba wma")
"""Opened all the same: they end as Skipped('no video stream'), so nothing vanishes in silence."""

MEDIA = VIDEO | IMAGE | AUDIO
