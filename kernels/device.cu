#include <cstdio>

#include <cuda_runtime.h>

#include "device.h"

extern "C" void GramDeviceList(char list[], size_t size)
{
  int    count = 0;
  size_t at    = 0;

  if (cudaGetDeviceCount(&count) != cudaSuccess) { /* no driver, or one too old for this toolkit */
    (void)cudaGetLastError();
    count = 0;
  }
  (void)snprintf(list, size, "none found");
  for (int i = 0; i < count && at < size; i++) {
    cudaDeviceProp p;

    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    at += (size_t)snprintf(list + at, size - at, "%s%d: %s, sm_%d%d, %.0f GB", at ? "; " : "", i, p.name,
                           p.major, p.minor, 1e-9 * (double)p.totalGlobalMem);
  }
}
