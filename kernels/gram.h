/* What every file sees: PETSc, how failures are classed, and the limits of the data structures. */
#pragma once

#include <stdint.h>

#include <petscsys.h>

#if defined(PETSC_USE_COMPLEX) || !defined(PETSC_USE_REAL_DOUBLE)
  #error "Gramarye needs a PETSc configured with real, double precision scalars"
#endif

#if PETSC_VERSION_LT(3, 19, 0)
  #define PETSC_SUCCESS 0
#endif

#define GRAM_VERSION "0.1.0"
#define GRAM_MAX_DIM 128 /* coordinates per point */

/*
  Two classes of failure reach a user; app/main.c turns them into exit codes. Both are raised with PetscCheck on
  the communicator of all ranks and with the same condition on each of them, so that the program ends in order
  and one rank writes one line:  data.file: cannot open 'x.h5': No such file or directory
*/
#define GRAM_ERR_INPUT    PETSC_ERR_USER_INPUT /* exit 2: a key, a dataset or a row is wrong */
#define GRAM_ERR_RESOURCE PETSC_ERR_FILE_WRITE /* exit 4: the disk, the memory or the machine gave out */

/* A user's mistake: names the key, the value and the limit. */
#define GramCheckInput(condition, comm, ...)    PetscCheck(condition, comm, GRAM_ERR_INPUT, __VA_ARGS__)
#define GramCheckResource(condition, comm, ...) PetscCheck(condition, comm, GRAM_ERR_RESOURCE, __VA_ARGS__)

/* Where entry (row, col) stands in an array of cols (or, by columns, leading dimension) numbers a row: rows times
   columns outgrows a 32-bit PetscInt long before either does. */
static inline size_t GramAt(PetscInt row, PetscInt cols, PetscInt col)
{
  return (size_t)row * (size_t)cols + (size_t)col;
}

/* A hash of (seed, i), for random numbers by counter: any rank can make any of them. Splitmix64 (G. Steele, D. Lea,
   C. Flood, OOPSLA 2014); of one seed a bijection, so that no two i have the same. */
static inline uint64_t GramHash(uint64_t seed, uint64_t i)
{
  uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;

  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* uniform in [0, 1) */
static inline PetscReal GramUniform(uint64_t seed, uint64_t i)
{
  return (PetscReal)(GramHash(seed, i) >> 11) * 0x1p-53;
}
