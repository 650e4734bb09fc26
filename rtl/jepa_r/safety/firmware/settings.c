/* The settings of this image. */

#include "island.h"

const struct settings settings = SETTINGS;
