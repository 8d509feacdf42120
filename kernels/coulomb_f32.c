/* The Coulomb tile in float: see coulomb_impl.h. */
#define GRAM_REAL float
#include "coulomb_impl.h"
