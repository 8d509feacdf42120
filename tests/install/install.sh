#!/usr/bin/env bash
# install.sh BUILD SOURCE FOLDER: install into FOLDER, then build and run an application by CMake and by pkg-config.
set -euo pipefail
build=$1 source=$2 folder=$3
rm -rf "$folder"
cmake --install "$build" --prefix "$folder/usr" >/dev/null
lib=$(dirname "$(find "$folder/usr" -name libgram_kernels.a)")
cmake -S "$source" -B "$folder/cmake" -DCMAKE_PREFIX_PATH="$folder/usr" >/dev/null
cmake --build "$folder/cmake" >/dev/null
"$folder/cmake/by_cmake"
export PKG_CONFIG_PATH=$lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
read -ra flags <<<"$(pkg-config --cflags --libs gramarye)"
mpicc "$source/main.c" "${flags[@]}" -o "$folder/by_pkg_config"
"$folder/by_pkg_config"
"$folder/usr/bin/gramarye" info >/dev/null
