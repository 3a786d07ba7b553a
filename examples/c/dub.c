/* Dubs one file: dub INPUT --to es [--from en] -o DIR */

#include <stdio.h>
#include <string.h>

#include "dubcore.h"

static int usage(void)
{
    fprintf(stderr, "usage: dub INPUT --to LANGUAGE [--from LANGUAGE] -o DIR\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *input = NULL, *from = NULL, *to = NULL, *out_dir = NULL;
    dub_error *error;
    dub_status status;
    int i;

    for (i = 1; i < argc; i++) {
        const char **value = NULL;
        if (strcmp(argv[i], "--to") == 0)
            value = &to;
        else if (strcmp(argv[i], "--from") == 0)
            value = &from;
        else if (strcmp(argv[i], "-o") == 0)
            value = &out_dir;
        if (value != NULL && i + 1 < argc)
            *value = argv[++i];
        else if (value == NULL && argv[i][0] != '-' && input == NULL)
            input = argv[i];
        else
            return usage();
    }
    if (input == NULL || to == NULL || out_dir == NULL)
        return usage();

    /* The error object is optional: with NULL here, the status alone would tell what went wrong. */
    error = dub_error_new();
    status = dub_file(input, from, to, out_dir, error);
    if (status != DUB_STATUS_OK)
        fprintf(stderr, "dub: %s (%s)\n", dub_error_message(error), dub_error_kind(error));
    dub_error_free(error);
    return status == DUB_STATUS_OK ? 0 : 1;
}
