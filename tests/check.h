/* The whole test framework: a test is a small driver that is silent when right and returns check_failures != 0. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include <petscsys.h>

static int check_failures;

#define CHECK(condition, ...)                               \
  do {                                                      \
    if (!(condition)) {                                     \
      check_failures++;                                     \
      (void)fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
      (void)fprintf(stderr, __VA_ARGS__);                   \
      (void)fprintf(stderr, "\n");                          \
    }                                                       \
  } while (0)

/* |got - expected| <= tolerance |expected|; NaN fails */
#define CHECK_CLOSE(name, got, expected, tolerance)                                       \
  CHECK(fabs((double)(got) - (double)(expected)) <= (tolerance)*fabs((double)(expected)), \
        "%s: %.17g, not %.17g", name, (double)(got), (double)(expected))

/* Uniform numbers in (0, 1) by counter, so that any rank can make any of them: splitmix64 (Steele et al. 2014). */
static inline double CheckUniform(uint64_t seed, uint64_t i)
{
  uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;

  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1p-53;
}
