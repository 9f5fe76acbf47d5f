# SPDX-License-Identifier: MIT
# A text file as a C array, NUL-terminated, declared in page.h:
#   cmake -D IN=page/inspect.js -D NAME=page_inspect_js -D OUT=page_inspect_js.c -P embed.cmake
# Bytes, since a C string literal need not be allowed to be this long.
file(READ "${IN}" hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x0a,)" "\\1\n    " bytes "${bytes}") # a line of the file a line
get_filename_component(from "${IN}" NAME)
file(WRITE "${OUT}" "/* Made from ${from} by embed.cmake. */\n#include \"page.h\"\n\nconst unsigned char ${NAME}[] = {\n    ${bytes}0};\n")
