#!/usr/bin/env bash
# Makes the media that `lab::media` bundles: v0.mp4, v1.mp4, v2.mp4 and a0.mp4.
#
# Why they are as they are: the lab origin repeats the files for ever and must do so without a seam,
# so every track lasts exactly 32 s, and none has an edit list, which would have to be applied anew
# in each loop. `lab/src/media/read.rs` refuses a file that breaks this. All content is synthetic, so
# that it can be distributed, and small, for it is compiled into the binary.
#
#   Video  H.264, 30 frames/s, closed GOPs of exactly 1 s, so that a segment can begin at any second;
#          no B-frames, so decode order is display order and there are no composition offsets. The
#          bit rate is capped over 1 s, so that segments of one rendition weigh about the same.
#   Audio  AAC, 48 kHz, 1500 frames of 1024 samples = 32 s. Cut out of the middle of a longer encoding
#          of a sound that repeats: no encoder priming, and its last frame overlaps with its first
#          as with any other neighbor.
#
# Picture and sound mark each second, a white corner and a beep, so that a player out of step is seen
# and heard. The picture names its height and the time within the loop.
#
# Needs ffmpeg with libx264 and the drawtext filter, and a font that fontconfig finds. Writes into
# the directory of this script. Other versions of ffmpeg make other bytes; the tests of `lab::media`
# say whether they fit.
set -euo pipefail
cd "$(dirname "$0")"

seconds=32
rate=30

video() { # name width height bits_per_second font_size
    local name=$1 width=$2 height=$3 bits=$4 size=$5
    local label="drawtext=text='seawall ${height}p  %{pts\:hms}':fontcolor=white:fontsize=${size}"
    label+=":box=1:boxcolor=black@0.6:boxborderw=6:x=(w-text_w)/2:y=h-text_h-${size}"
    local mark="drawbox=enable='lt(mod(n,${rate}),3)':x=0:y=0:w=iw/8:h=ih/8:color=white:t=fill"
    ffmpeg -hide_banner -loglevel error -nostdin -y -bitexact \
        -t "$seconds" -f lavfi -i "testsrc2=size=${width}x${height}:rate=${rate}" \
        -vf "${label},${mark},format=yuv420p" \
        -c:v libx264 -preset slow -profile:v main -threads 1 \
        -b:v "$bits" -maxrate "$bits" -bufsize "$bits" \
        -x264-params "keyint=${rate}:min-keyint=${rate}:scenecut=0:open-gop=0:bframes=0:force-cfr=1" \
        -fps_mode passthrough -video_track_timescale 30000 -use_editlist 0 -map_metadata -1 \
        "${name}.mp4"
}

audio() { # name bits_per_second
    # Frame 0 is the encoder's priming, so frame n+1 holds the samples from n * 1024 on: frames 1501
    # to 3000 are the second 32 s of the sound.
    local first=$((seconds * 48000 / 1024 + 1))
    local end=$((2 * seconds * 48000 / 1024 + 1))
    ffmpeg -hide_banner -loglevel error -nostdin -y -bitexact \
        -t $((3 * seconds)) -f lavfi -i "sine=frequency=220:beep_factor=4:sample_rate=48000" \
        -ac 2 -c:a aac -b:a "$2" \
        -bsf:a "noise=amount=0:drop='lt(n,${first})+gte(n,${end})',setts=ts=N*1024:duration=1024" \
        -use_editlist 0 -map_metadata -1 -f mp4 "$1.mp4"
}

video v0 256 144 80k 14
video v1 426 240 150k 20
video v2 640 360 300k 28
audio a0 64k
