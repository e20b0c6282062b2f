package reports

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// provider makes the spans of deliveries from the inbox, whose request is gone: it
// is the one of the last request that was traced.
var provider atomic.Pointer[trace.TracerProvider]

const traceParent = "traceparent"

// rememberTrace notes the span of the request, below which those of its report's
// deliveries will be. It is empty if that is not traced.
func rememberTrace(ctx context.Context) string {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return ""
	}
	p := span.TracerProvider()
	provider.Store(&p)
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceParent]
}

// recallTrace returns ctx with the span that rememberTrace noted.
func recallTrace(ctx context.Context, parent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceParent: parent})
}

// startSpan begins a span below that of the request, if that is traced.
func startSpan(ctx context.Context, route string) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	from := parent.TracerProvider()
	if !parent.IsRecording() {
		known := provider.Load()
		if !parent.SpanContext().IsSampled() || known == nil {
			return ctx, nil
		}
		from = *known
	}
	return from.Tracer("github.com/caddy-klavi/caddy-klavi").
		Start(ctx, "klavi report", trace.WithAttributes(attribute.String("klavi.route", route)))
}

func endSpan(span trace.Span, status int, err error) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.Bool("klavi.accepted", err == nil))
	span.End()
}
