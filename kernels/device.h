/* Which accelerators this process can see. */
#pragma once

#include <stddef.h>

#if defined(__cplusplus)
extern "C" {
#endif

/* "none found", "not built for CUDA", or "0: NVIDIA H200, sm_90, 141 GB; 1: ...", in list [size]. Never fails: a
   missing driver is no device. Not collective. */
void GramDeviceList(char list[], size_t size);

#if defined(__cplusplus)
}
#endif
