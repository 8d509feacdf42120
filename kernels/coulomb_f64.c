/* The Coulomb tile in double: see coulomb_impl.h. */
#define GRAM_REAL double
#include "coulomb_impl.h"
