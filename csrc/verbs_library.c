/*
 * libibverbs and librdmacm, found when the first verbs fabric is made: a host without them runs the same proxy.
 *
 * dlsym gives each function's newest version, which is the one that the headers describe. Functions that the headers
 * define inline (posting, polling, memory windows) go through the adapter's context and need no symbol.
 */
#include "verbs.h"

#if VERBS_BUILT
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PREFIX_ibverbs "ibv_"
#define PREFIX_rdmacm  "rdma_"

static void *open_library(const char *name, char *words, size_t size)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		snprintf(words, size, "%s cannot be loaded (%s); install rdma-core's libraries",
			 name, dlerror());
	return library;
}

/* POSIX lets an object pointer hold a function's address; C has no cast for it. */
static bool find(void *library, const char *name, void *place, char *words, size_t size)
{
	void *symbol = dlsym(library, name);

	memcpy(place, &symbol, sizeof(symbol));
	if (!symbol)
		snprintf(words, size, "the installed rdma-core is too old: it has no %s", name);
	return symbol;
}

int verbs_library_open(struct verbs_library *library, char *words, size_t size)
{
	library->ibverbs = open_library("libibverbs.so.1", words, size);
	if (library->ibverbs)
		library->rdmacm = open_library("librdmacm.so.1", words, size);
	if (!library->rdmacm) {
		verbs_library_close(library);
		return -ENOENT;
	}
#define FIND(from, result, name, parameters)                                                       \
	if (!find(library->from, PREFIX_##from #name, &library->name, words, size)) {              \
		verbs_library_close(library);                                                      \
		return -ENOENT;                                                                    \
	}
	VERBS_FUNCTIONS(FIND)
#undef FIND
	return 0;
}

void verbs_library_close(struct verbs_library *library)
{
	if (library->rdmacm)
		dlclose(library->rdmacm);
	if (library->ibverbs)
		dlclose(library->ibverbs);
	library->rdmacm = library->ibverbs = NULL;
}

#endif
