/* A JSON object on one line of standard output. */
#pragma once

#include "gram.h"

typedef struct {
  char   text[4096];
  size_t length;
} GramJson; /* {"", 0} is empty */

/* Not collective. Control characters in value become blanks. */
void GramJsonAddText(GramJson *json, const char *name, const char *value);
void GramJsonAddBool(GramJson *json, const char *name, PetscBool value);

/* Whole numbers with all their digits, others with nine; infinities and NaN, which JSON has not, as null. */
void GramJsonAddNumber(GramJson *json, const char *name, PetscReal value);

/* The object and the end of the line, at once. Collective. */
PetscErrorCode GramJsonPrint(MPI_Comm comm, const GramJson *json);
