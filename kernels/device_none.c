#include <stdio.h>

#include "device.h"

void GramDeviceList(char list[], size_t size) { (void)snprintf(list, size, "not built for CUDA"); }
