// Of CUDA's driver as much as launching takes, for a GPU that is not there: descriptors of tensors are held to what the
// documentation of cuTensorMapEncodeTiled asks for, launches are handed to whoever listens.
#include <stdint.h>
#include <string.h>

typedef void (*Listener)(const unsigned *config, void **parameters);
static Listener listener = 0;

void listen(Listener own) { listener = own; }

int cuCtxGetCurrent(void **context) { *context = (void *)1; return 0; }
int cuCtxGetDevice(int *device) { *device = 0; return 0; }
int cuCtxGetLimit(size_t *value, int limit) { *value = 0; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "refused by the absent driver"; return 0; }
int cuModuleLoadData(void **module, const void *image) { *module = (void *)1; return 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) { *function = (void *)1; return 0; }
int cuStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }

// Shared memory that a block may have where it asks for more (97); else some processors, threads and the like.
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 97 ? 227 * 1024 : 128; return 0; }
// The most threads of a block (0); no static shared memory, registers, spills.
int cuFuncGetAttribute(int *value, int attribute, void *function) { *value = attribute == 0 ? 1024 : 0; return 0; }

int cuPointerGetAttribute(void *data, int attribute, uint64_t pointer) { *(uint64_t *)data = pointer; return 0; }
int cuPointerGetAttributes(unsigned count, int *attributes, void **data, uint64_t pointer) {
  for (unsigned i = 0; i < count; i++) *(uint64_t *)data[i] = pointer;
  return 0;
}

int cuLaunchKernelEx(const unsigned *config, void *function, void **parameters, void **extra) {
  if (listener) listener(config, parameters);
  return 0;
}

int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address, const uint64_t *extents,
                           const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                           int swizzle, int promotion, int fill) {
  static const unsigned sizes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4}, widths[] = {1u << 30, 32, 64, 128};
  unsigned inner = box[0] * sizes[type];
  if ((uintptr_t)address % 16 || rank < 1 || rank > 5 || inner % 16 || inner > widths[swizzle]) return 1;
  for (unsigned i = 0; i < rank; i++)
    if (!extents[i] || extents[i] > 1ull << 32 || !box[i] || box[i] > 256 || steps[i] != 1) return 1;
  for (unsigned i = 0; i + 1 < rank; i++)
    if (strides[i] % 16 || strides[i] >= 1ull << 40) return 1;
  memset(map, 0, 128);
  memcpy(map, &address, sizeof address);
  return 0;
}
