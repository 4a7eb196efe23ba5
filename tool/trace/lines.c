/* SPDX-License-Identifier: MIT */

#include "trace/lines.h"

#include "common/list.h"
#include "trace/rust_names.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    RANGES_MOST = 4 << 20
};

struct range {
    Dwarf_Addr low, high;
    Dwarf_Off unit; /* of the compilation unit's die */
};

/* Of a module, with addresses as its debugging information has them. */
struct units {
    Dwarf *dwarf;
    Dwarf_Addr bias;
    LIST(struct range) ranges;
};

static struct units **slot_of(Dwfl_Module *module)
{
    void **data = NULL;

    (void) dwfl_module_info(module, &data, NULL, NULL, NULL, NULL, NULL, NULL);
    return (struct units **) data;
}

static int by_low(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    return x->low < y->low ? -1 : x->low > y->low;
}

static void add_unit(struct units *units, Dwarf_Die *die)
{
    Dwarf_Addr base, low, high;
    ptrdiff_t at = 0;

    while ((at = dwarf_ranges(die, at, &base, &low, &high)) > 0)
        if (low < high && units->ranges.count < RANGES_MOST)
            (void) list_add(&units->ranges, (struct range) { low, high, dwarf_dieoffset(die) });
}

static struct units *make_units(Dwfl_Module *module)
{
    struct units *units = calloc(1, sizeof *units);
    Dwarf_Die *die = NULL;

    if (!units)
        return NULL;
    units->dwarf = dwfl_module_getdwarf(module, &units->bias);
    while (units->dwarf && (die = dwfl_module_nextcu(module, die, &units->bias)))
        add_unit(units, die);
    list_sort(&units->ranges, by_low);
    return units;
}

static const struct range *find(const struct units *units, Dwarf_Addr at)
{
    size_t low = 0, high = units->ranges.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (units->ranges.at[middle].low <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low && at < units->ranges.at[low - 1].high ? &units->ranges.at[low - 1] : NULL;
}

static const char *search_units(Dwfl_Module *module, Dwarf_Addr at, int *line)
{
    struct units **slot = slot_of(module);
    const struct range *range;
    Dwarf_Line *found;
    Dwarf_Die die;

    if (slot && !*slot)
        *slot = make_units(module);
    if (!slot || !*slot || !(*slot)->dwarf)
        return NULL;
    at -= (*slot)->bias;
    range = find(*slot, at);
    if (!range || !dwarf_offdie((*slot)->dwarf, range->unit, &die))
        return NULL;
    found = dwarf_getsrc_die(&die, at);
    if (!found || dwarf_lineno(found, line) != 0)
        return NULL;
    return dwarf_linesrc(found, NULL, NULL);
}

const char *lines_find(Dwfl_Module *module, Dwarf_Addr at, int *line)
{
    Dwfl_Line *found = dwfl_module_getsrc(module, at);
    const char *file = found ? dwfl_lineinfo(found, NULL, line, NULL, NULL, NULL) : NULL;

    return file ? file : search_units(module, at, line);
}

void lines_forget(Dwfl_Module *module)
{
    struct units **slot = slot_of(module);

    if (!slot || !*slot)
        return;
    free((*slot)->ranges.at);
    free(*slot);
    *slot = NULL;
}

/* ---- names ---- */

typedef char *demangle_fn(const char *name, char *buf, size_t *size, int *status);

/* In a static executable. */
extern demangle_fn __cxa_demangle __attribute__((weak));

/* Of the C++ runtime, where there is one: it reads what Rust calls legacy names too. */
static demangle_fn *find_demangle(void)
{
    static demangle_fn *found;
    static bool looked;
    void *library;

    if (looked)
        return found;
    looked = true;
    if (__cxa_demangle)
        return found = __cxa_demangle;
    library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_LOCAL);
    if (library)
        *(void **) &found = dlsym(library, "__cxa_demangle");
    return found;
}

static char *demangle_rust(const char *name)
{
    char text[1024];

    return rust_demangle(name, text, sizeof text) || rust_demangle_legacy(name, text, sizeof text)
        ? strdup(text)
        : NULL;
}

const char *lines_demangle(const char *name, char **ret)
{
    demangle_fn *demangle = strncmp(name, "_Z", 2) == 0 ? find_demangle() : NULL;
    int status = -1;

    *ret = demangle_rust(name);
    if (*ret)
        return *ret;
    *ret = demangle ? demangle(name, NULL, NULL, &status) : NULL;
    return *ret && status == 0 ? *ret : name;
}
