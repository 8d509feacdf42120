/* A solve that begins where a saved model is: points may have been added, or kernel and ridge changed. */
#pragma once

#include "dataset.h"
#include "kernel.h"
#include "points.h"

/**
  GramUpdateFromOptions - With -model_file, the coefficients that it has at the points of the data; 0 at new ones.

  Collective.

  @param[in]  data, X, kernel what is to be solved
  @param[out] guess  laid out as GramMatCreate() of X, to begin a solve with; NULL without -model_file. Free with MatDestroy()

  Points are matched by their coordinates in the files, bit by bit. Says on standard output how many were found.

  Errors: those of GramModelRead(); GRAM_ERR_INPUT for other coordinates or columns than the data have.
**/
PetscErrorCode GramUpdateFromOptions(const GramDataset *data, GramPoints X, const GramKernel *kernel,
                                     Mat *guess);
