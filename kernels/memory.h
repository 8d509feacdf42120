/* Will it fit? Asked before the memory is taken, since a node that runs out kills without a word. And what was taken. */
#pragma once

#include "gram.h"

/**
  GramMemoryFits - Bytes per rank, summed over the ranks of each node, against the memory the node has available.

  Collective.

  @param[out] fits       on every node
  @param[out] need, have bytes on the node where it is tightest
**/
PetscErrorCode GramMemoryFits(MPI_Comm comm, PetscLogDouble bytes, PetscBool *fits, PetscLogDouble *need,
                              PetscLogDouble *have);

/**
  GramMemoryCheck - Refuse what does not fit: n points, what ("solve.method direct"), bytes per rank.

  Collective. line [size], unless NULL: "solve.method direct, 3.3 GB of the 22 GB available".

  Errors: GRAM_ERR_RESOURCE with need and capacity.
**/
PetscErrorCode GramMemoryCheck(MPI_Comm comm, PetscInt n, PetscLogDouble bytes, const char *what, char line[],
                               size_t size);

/**
  GramMemoryPeak - The most bytes that were resident since the last GramMemoryPeakReset(), summed over the ranks.

  Collective.
**/
PetscErrorCode GramMemoryPeak(MPI_Comm comm, PetscLogDouble *bytes);

/* Starts the peak of this process again from what is resident now; where the system does not let it, the peak stays
   that since the start. Not collective. */
void GramMemoryPeakReset(void);
