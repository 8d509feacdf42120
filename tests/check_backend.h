/* Tests of a backend whose hardware may be missing here. */
#pragma once

#include "backend.h"

/* Is the backend named -backend (or fallback) built, and does it find its hardware? A test that gets PETSC_FALSE returns
   77, which CTest counts as skipped. Collective on PETSC_COMM_WORLD. */
static inline PetscErrorCode CheckBackendFound(const char *fallback, char name[16], PetscBool *found)
{
  char detail[256];

  PetscFunctionBegin;
  PetscCall(PetscStrncpy(name, fallback, 16));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-backend", name, 16, NULL));
  PetscCall(PetscStrcmp(name, "auto", found));
  for (int i = 0; GramBackendName(i) && !*found; i++) {
    PetscBool same;

    PetscCall(PetscStrcmp(name, GramBackendName(i), &same));
    if (same) PetscCall(GramBackendProbe(PETSC_COMM_WORLD, i, found, detail, sizeof detail));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}
