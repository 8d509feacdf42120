/* The command line and the configs of gramarye: VERB CONFIG.yaml [CONFIG.yaml ...] [-key value ...]. */
#pragma once

#include "gram.h"

#define GRAM_MAX_CONFIGS 16

/* What was asked for, before PETSc starts. */
typedef struct {
  const char *verb;
  int         n_configs;
  const char *configs[GRAM_MAX_CONFIGS];
  int         n_args; /* the -key value part, args[0] is the program */
  char      **args;
} GramCommand;

/**
  GramCommandParse - Take the command line apart.

  Not collective; before PetscInitialize().

  @param[out] problem [size] empty, or one line that says what is wrong
**/
void GramCommandParse(int argc, char **argv, GramCommand *command, char problem[], size_t size);

/**
  GramConfigsInspect - Are the configs there, and is their YAML sound?

  Collective on comm; before PetscInitialize(). The first rank reads, and with libyaml names the line of a mistake
  and of a key that appears twice; without it PetscInitialize() still refuses bad YAML.
**/
void GramConfigsInspect(MPI_Comm comm, const GramCommand *command, char problem[], size_t size);

/* The arguments that make PetscInitialize() read the configs in order and let the command line override them.
   Free with free(). */
char **GramCommandPetscArgs(const GramCommand *command, int *argc);

/**
  GramConfigCheck - Every key known, of the right type and available; paths of configs resolved.

  Collective on comm, after PetscInitialize(). A path in a config is relative to the config's folder; one on the
  command line to the current folder. Keys that start like PETSc's own (ksp_, pc_, log_, ...) are left to PETSc.

  Errors: GRAM_ERR_INPUT naming the key and, when it is unknown, the nearest known one.
**/
PetscErrorCode GramConfigCheck(MPI_Comm comm, const GramCommand *command);

/* PETSc's options that nobody read: one line of warning each on standard error. Collective. */
PetscErrorCode GramConfigWarnUnused(MPI_Comm comm);
