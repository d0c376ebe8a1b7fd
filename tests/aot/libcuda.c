// Stands for NVIDIA's driver where there is none: says that everything went well, runs nothing, and
// tells a listener of every launch. Handles are made up; a function's is its name.
//
// A CUDA build of torch asks it for devices too, through CUDA's runtime, as soon as autograd starts,
// and is told that there are none.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

typedef void (*Listener)(const char* name, const unsigned* grid_and_block, void** parameters);
static Listener listener;
void listen(Listener to) { listener = to; }

int cuCtxGetCurrent(void** context) { *context = (void*)1; return 0; }
int cuCtxSetCurrent(void* context) { return 0; }
int cuCtxGetDevice(int* device) { *device = 0; return 0; }
int cuCtxGetLimit(size_t* value, int limit) { *value = 0; return 0; }
int cuCtxSetLimit(int limit, size_t value) { return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) { *value = 232448; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { *context = (void*)1; return 0; }
int cuDriverGetVersion(int* version) { *version = 13000; return 0; }
int cuFuncGetAttribute(int* value, int attribute, void* function) { *value = 1024; return 0; }
int cuFuncSetAttribute(void* function, int attribute, int value) { return 0; }
int cuFuncSetCacheConfig(void* function, int config) { return 0; }
int cuGetErrorString(int error, const char** text) { *text = "error"; return 0; }
int cuModuleLoadData(void** module, const void* image) { *module = (void*)1; return 0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = strdup(name);
  return 0;
}
int cuModuleUnload(void* module) { return 0; }
int cuStreamIsCapturing(void* stream, int* status) { *status = 0; return 0; }
int cuPointerGetAttribute(void* value, int attribute, uint64_t pointer) {
  *(uint64_t*)value = pointer;
  return 0;
}
int cuPointerGetAttributes(unsigned count, int* attributes, void** values, uint64_t pointer) {
  for (unsigned i = 0; i < count; i++) cuPointerGetAttribute(values[i], attributes[i], pointer);
  return 0;
}
int cuLaunchKernelEx(const void* config, void* function, void** parameters, void** extra) {
  listener((const char*)function, (const unsigned*)config, parameters);
  return 0;
}

static int no_device(void) { return 100; }  // CUDA_ERROR_NO_DEVICE
int cuInit(unsigned flags) { return no_device(); }
int cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags, int* found) {
  *function = dlsym(RTLD_DEFAULT, name);
  if (*function == 0) *function = (void*)no_device;
  if (found != 0) *found = 0;
  return 0;
}
int cuGetProcAddress(const char* name, void** function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, 0);
}
