{{- define "sqlsentinel.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The rest take a dict: root, component. */}}
{{- define "sqlsentinel.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "sqlsentinel.labels" -}}
{{ include "sqlsentinel.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "sqlsentinel.metadata" -}}
name: {{ include "sqlsentinel.fullname" .root }}-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "sqlsentinel.labels" . | nindent 2 }}
{{- end -}}

{{- define "sqlsentinel.image" -}}
{{ required "image.repository is required: an image with SQL Sentinel's programs" .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "sqlsentinel.podSecurity" -}}
automountServiceAccountToken: false
# Variables such as NATS_PORT, made of the namespace's Services, are not ours.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "sqlsentinel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "sqlsentinel.stateSecret" -}}
{{ required "stateDatabase.existingSecret is required: a Secret with the URL of the state database" .Values.stateDatabase.existingSecret }}
{{- end -}}

{{/*
The secrets that the process itself logs in with: a list of {variable, secret, key}. They lie outside /run/secrets, where
alerts may read.
*/}}
{{- define "sqlsentinel.ownSecrets" -}}
{{- $values := .root.Values -}}
{{- if not $values.nats.insecure }}
- {variable: NATS_PASSWORD_FILE, secret: {{ required "nats.auth.existingSecret is required: a Secret with the passwords of NATS's users (or nats.insecure)" $values.nats.auth.existingSecret }}, key: {{ (index $values.nats.auth .component).key }}}
{{- end }}
{{- if ne .component "worker" }}
- {variable: STATE_DB_URL_FILE, secret: {{ include "sqlsentinel.stateSecret" .root }}, key: {{ $values.stateDatabase.key }}}
{{- end }}
{{- if eq .component "worker" }}
{{- with $values.worker.databaseUrl }}{{ if .existingSecret }}
- {variable: DATABASE_URL_FILE, secret: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}{{ end }}
{{- end }}
{{- if eq .component "notifier" }}
{{- range $variable, $secret := dict "SMTP_PASSWORD_FILE" $values.notifier.smtp.passwordSecret "SLACK_WEBHOOK_URL_FILE" $values.notifier.slackWebhookUrl "WEBHOOK_URL_FILE" $values.notifier.webhookUrl }}
{{- if $secret.existingSecret }}
- {variable: {{ $variable }}, secret: {{ $secret.existingSecret }}, key: {{ $secret.key }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
