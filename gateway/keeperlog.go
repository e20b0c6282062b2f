package gateway

import (
	"context"
	"log/slog"
)

// newestHandler logs to where the newest config does: the store lives longer than
// the config that opened it.
type newestHandler struct{ k *keeper }

func (h newestHandler) newest() slog.Handler { return *h.k.log.Load() }

func (h newestHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.newest().Enabled(ctx, level)
}

func (h newestHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.newest().Handle(ctx, r)
}

func (h newestHandler) WithAttrs(attrs []slog.Attr) slog.Handler { return h.newest().WithAttrs(attrs) }

func (h newestHandler) WithGroup(name string) slog.Handler { return h.newest().WithGroup(name) }
