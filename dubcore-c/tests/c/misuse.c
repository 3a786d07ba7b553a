/*
 * Calls the library as it must not be called, and as it may be: nothing here may crash, leak or go undetected.
 * `cargo xtask test c` builds it with gcc's address and undefined-behaviour sanitizers and counts its "ok" lines.
 *
 * misuse TEXT_FILE SCRATCH_DIR: a file that is no media, and a directory that does not exist yet.
 */

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "dubcore.h"

static int failures;

static void check(int holds, const char *what)
{
    printf("%s %s\n", holds ? "ok" : "FAILED", what);
    if (!holds)
        failures++;
}

/* A call that must fail with `want`, tell so in the error, and name the argument in its message. */
static void refuses(const char *what, dub_status want, const char *named, const char *input, const char *from,
                    const char *to, const char *out_dir)
{
    dub_error *error = dub_error_new();
    dub_status got = dub_file(input, from, to, out_dir, error);
    int told = dub_error_status(error) == want && strstr(dub_error_message(error), named) != NULL &&
               strcmp(dub_error_kind(error), "ok") != 0;
    if (got != want || !told)
        printf("  status %d, message \"%s\"\n", (int)got, dub_error_message(error));
    check(got == want && told, what);
    dub_error_free(error);
    check(dub_file(input, from, to, out_dir, NULL) == want, "... and the same without an error object");
}

static void *free_elsewhere(void *error)
{
    dub_error_free(error);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *bad = "\xff\xfe";
    static char endless[100000];
    char version[40];
    const char *text, *out;
    dub_error *error;
    pthread_t thread;
    FILE *left;

    if (argc != 3)
        return 2;
    text = argv[1];
    out = argv[2];

    check(strcmp(dub_version(), DUB_VERSION) == 0, "the version is told");
    snprintf(version, sizeof version, "%d.%d.%d", DUB_VERSION_MAJOR, DUB_VERSION_MINOR, DUB_VERSION_PATCH);
    check(strncmp(version, DUB_VERSION, strlen(version)) == 0, "and its parts");
    check(dub_handles() == 0, "there is no handle yet");
    check(dub_abi_version() == DUB_ABI_VERSION, "the header is the library's");

    refuses("input NULL", DUB_STATUS_INVALID_ARGUMENT, "input", NULL, "en", "es", out);
    refuses("input empty", DUB_STATUS_INVALID_ARGUMENT, "input", "", "en", "es", out);
    refuses("input not UTF-8", DUB_STATUS_INVALID_ARGUMENT, "input", bad, "en", "es", out);
    refuses("from not UTF-8", DUB_STATUS_INVALID_ARGUMENT, "from", text, bad, "es", out);
    refuses("from unknown", DUB_STATUS_UNSUPPORTED_LANGUAGE, "klingonese", text, "klingonese", "es", out);
    refuses("to NULL", DUB_STATUS_INVALID_ARGUMENT, "to", text, "en", NULL, out);
    refuses("to not UTF-8", DUB_STATUS_INVALID_ARGUMENT, "to", text, "en", bad, out);
    refuses("to unknown", DUB_STATUS_UNSUPPORTED_LANGUAGE, "klingonese", text, "en", "klingonese", out);
    refuses("out_dir NULL", DUB_STATUS_INVALID_ARGUMENT, "out_dir", text, "en", "es", NULL);
    refuses("out_dir not UTF-8", DUB_STATUS_INVALID_ARGUMENT, "out_dir", text, "en", "es", bad);
    refuses("no such file", DUB_STATUS_IO, "nowhere", "/nowhere/at all.wav", "en", "es", out);
    refuses("to empty", DUB_STATUS_INVALID_ARGUMENT, "to", text, "en", "", out);
    refuses("from empty", DUB_STATUS_UNSUPPORTED_LANGUAGE, "", text, "", "es", out);
    refuses("out_dir empty", DUB_STATUS_INVALID_ARGUMENT, "out_dir", text, "en", "es", "");
    refuses("a directory", DUB_STATUS_IO, "/", "/", "en", "es", out);
    refuses("a file below a file", DUB_STATUS_IO, "below", "/dev/null/below", "en", "es", out);
    refuses("a device without sound", DUB_STATUS_IO, "null", "/dev/null", "en", "es", out);
    refuses("a device without end", DUB_STATUS_IO, "zero", "/dev/zero", "en", "es", out);
    memset(endless, 'n', sizeof endless - 1);
    refuses("a path without end", DUB_STATUS_IO, "nnnn", endless, "en", "es", out);
    refuses("a language without end", DUB_STATUS_UNSUPPORTED_LANGUAGE, "", text, "en", endless, out);
    refuses("a text file", DUB_STATUS_UNSUPPORTED_MEDIA, "", text, "en", "es", out);

    left = fopen(out, "r");
    check(left == NULL, "a refused call leaves nothing behind");
    if (left != NULL)
        fclose(left);

    check(dub_error_status(NULL) == DUB_STATUS_INVALID_ARGUMENT, "the status of a NULL error");
    check(strlen(dub_error_message(NULL)) > 0, "the message of a NULL error");
    check(strcmp(dub_error_kind(NULL), "invalid_argument") == 0, "the kind of a NULL error");
    check(strlen(dub_error_hint(NULL)) > 0, "the hint of a NULL error");
    check(!dub_error_retryable(NULL), "a NULL error is not worth another try");
    dub_error_free(NULL);
    check(1, "freeing NULL");

    error = dub_error_new();
    check(dub_error_status(error) == DUB_STATUS_OK && strcmp(dub_error_kind(error), "ok") == 0 &&
              strlen(dub_error_message(error)) == 0,
          "a new error tells of none");
    dub_file(NULL, NULL, NULL, NULL, error);
    dub_file("/nowhere.wav", NULL, "es", out, error);
    check(dub_error_status(error) == DUB_STATUS_IO, "an error object is used again");
    check(pthread_create(&thread, NULL, free_elsewhere, error) == 0 && pthread_join(thread, NULL) == 0,
          "an error object is freed on another thread");

    return failures == 0 ? 0 : 1;
}
