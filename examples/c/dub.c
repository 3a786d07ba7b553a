/*
 * Dubs a media file: dub INPUT --to es [--from en] [-o DIR]
 *
 * Writes INPUT.es.wav, .srt, .vtt and .json, and the original's subtitles, and prints the lines as they are finished.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dubcore.h"

static int usage(void)
{
    fprintf(stderr, "usage: dub INPUT --to LANGUAGE [--from LANGUAGE] [-o DIR] [--stt MODEL] [--mt MODEL] [--tts MODEL]\n");
    return 2;
}

/* What the file is called without its folder and its ending, and the folder. */
static char *split(const char *path, char **folder)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    size_t length = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    char *stem = malloc(length + 1);

    *folder = malloc(strlen(path) + 2);
    if (stem == NULL || *folder == NULL)
        exit(1);
    memcpy(stem, name, length);
    stem[length] = '\0';
    strcpy(*folder, slash ? path : ".");
    if (slash)
        (*folder)[slash == path ? 1 : slash - path] = '\0';
    return stem;
}

static void print_line(dub_line line, dub_error *error)
{
    size_t index, words;
    double start, end;
    const char *source, *target;

    if (dub_line_outcome(line, error) != DUB_STATUS_OK) {
        printf("a line failed: %s (%s)\n", dub_error_message(error), dub_error_kind(error));
        return;
    }
    if (dub_line_source(line, &index, &start, &end, &source, &words, error) == DUB_STATUS_OK &&
        dub_line_target(line, &start, &end, &target, error) == DUB_STATUS_OK)
        printf("%6.2f - %6.2f  %s\n                 %s\n", start, end, source, target);
}

/* Does it, step by step; each step that fails says why in `error`. */
static dub_status dub(const char *input, const char *from, const char *to, const char *dir, const char *stem,
                      const char *const *models, dub_error *error)
{
    /* Handles that stand for nothing are freed as others are, so there is one way out. */
    dub_factory factory = DUB_NONE(dub_factory);
    dub_pipeline pipeline = DUB_NONE(dub_pipeline);
    dub_request request = DUB_NONE(dub_request);
    dub_run run = DUB_NONE(dub_run);
    dub_result result = DUB_NONE(dub_result);
    dub_job job = DUB_NONE(dub_job);
    dub_line line;
    const char *options[5];
    const char *path;
    size_t lines, failed, files, i, used = 0;
    char *track = malloc(strlen(dir) + strlen(stem) + strlen(to) + 8);
    dub_status status = DUB_STATUS_OUT_OF_MEMORY;

    if (track == NULL)
        goto done;
    sprintf(track, "%s/%s.%s.wav", dir, stem, to);
    options[used++] = "output";
    options[used++] = track;
    if (from != NULL) {
        options[used++] = "from";
        options[used++] = from;
    }
    options[used] = NULL;

    if ((status = dub_job_new(0, NULL, NULL, NULL, &job, error)) != DUB_STATUS_OK)
        goto done;
    if ((status = dub_factory_default(&factory, error)) != DUB_STATUS_OK)
        goto done;
    if ((status = dub_pipeline_load(factory, from, to, models, job, &pipeline, error)) != DUB_STATUS_OK)
        goto done;
    if ((status = dub_request_file(input, to, options, &request, error)) != DUB_STATUS_OK)
        goto done;
    if ((status = dub_run_start(pipeline, request, job, &run, error)) != DUB_STATUS_OK)
        goto done;
    while ((status = dub_run_next(run, &line, error)) == DUB_STATUS_OK) {
        print_line(line, error);
        dub_line_free(line);
    }
    if (status != DUB_STATUS_END)
        goto done;
    if ((status = dub_run_finish(run, &result, error)) != DUB_STATUS_OK)
        goto done;
    if ((status = dub_result_save(result, dir, stem, error)) != DUB_STATUS_OK)
        goto done;
    if ((status = dub_result_counts(result, &lines, &failed, &files, error)) != DUB_STATUS_OK)
        goto done;
    for (i = 0; i < files; i++)
        if (dub_result_file(result, i, &path, error) == DUB_STATUS_OK)
            printf("wrote %s\n", path);

done:
    free(track);
    dub_result_free(result);
    dub_run_free(run);
    dub_request_free(request);
    dub_pipeline_free(pipeline);
    dub_factory_free(factory);
    dub_job_free(job);
    return status;
}

int main(int argc, char **argv)
{
    const char *input = NULL, *from = NULL, *to = NULL, *out = NULL;
    const char *models[7];
    size_t named = 0;
    char *folder, *stem;
    dub_error *error;
    dub_status status;
    int i;

    for (i = 1; i < argc; i++) {
        const char **value = NULL;
        const char *key = NULL;
        if (strcmp(argv[i], "--to") == 0)
            value = &to;
        else if (strcmp(argv[i], "--from") == 0)
            value = &from;
        else if (strcmp(argv[i], "-o") == 0)
            value = &out;
        else if (strcmp(argv[i], "--stt") == 0)
            key = "stt";
        else if (strcmp(argv[i], "--mt") == 0)
            key = "translator";
        else if (strcmp(argv[i], "--tts") == 0)
            key = "tts";
        if (value != NULL && i + 1 < argc) {
            *value = argv[++i];
        } else if (key != NULL && i + 1 < argc && named < 6) {
            models[named++] = key;
            models[named++] = argv[++i];
        } else if (value == NULL && key == NULL && argv[i][0] != '-' && input == NULL) {
            input = argv[i];
        } else {
            return usage();
        }
    }
    models[named] = NULL;
    if (input == NULL || to == NULL)
        return usage();

    stem = split(input, &folder);
    if (out == NULL)
        out = folder;
    else
        (void)mkdir(out, 0777);

    error = dub_error_new();
    status = dub(input, from, to, out, stem, models, error);
    if (status != DUB_STATUS_OK)
        fprintf(stderr, "dub: %s (%s)\n", dub_error_message(error), dub_error_kind(error));
    dub_error_free(error);
    free(folder);
    free(stem);
    return status == DUB_STATUS_OK ? 0 : 1;
}
