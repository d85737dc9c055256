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

{{/* Whether /metrics is read from outside the pod: otherwise nothing listens on the pod's address. */}}
{{- define "sqlsentinel.metrics" -}}
{{- if or .Values.metrics.enabled .Values.podMonitor.enabled .Values.serviceMonitor.enabled }}true{{ end -}}
{{- end -}}

{{- define "sqlsentinel.image" -}}
{{ required "image.repository is required: an image with SQL Sentinel's programs" .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "sqlsentinel.pod" -}}
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
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Where a component's pods may be: takes the component's values. */}}
{{- define "sqlsentinel.place" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "sqlsentinel.container" -}}
image: {{ include "sqlsentinel.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/*
What a process is told of where it logs in and whom it trusts: variables, mounts and volumes. They take a dict: root,
component. Files lie outside /run/secrets, where alerts may read.
*/}}
{{- define "sqlsentinel.env" -}}
{{- $nats := .root.Values.nats -}}
{{- $auth := $nats.auth -}}
{{- if ne .component "migrate" }}
- {name: NATS_URL, value: {{ required "nats.url is required: where NATS is, as nats://nats:4222" $nats.url | quote }}}
{{- with $nats.namespace }}
- {name: SQLSENTINEL_NAMESPACE, value: {{ . | quote }}}
{{- end }}
{{- if $nats.insecure }}
- {name: INSECURE_NATS, value: "true"}
{{- else if eq $auth.method "password" }}
- {name: NATS_USER, value: {{ (index $auth (include "sqlsentinel.natsUser" .)).user | quote }}}
{{- end }}
{{- if $nats.ca.existingConfigMap }}
- {name: NATS_CA_FILE, value: /etc/sqlsentinel/nats-ca/ca.crt}
{{- end }}
{{- end }}
{{- if .root.Values.caBundle.existingConfigMap }}
- {name: SSL_CERT_DIR, value: "/etc/ssl/certs:/etc/sqlsentinel/ca-bundle"}
{{- end }}
{{- range include "sqlsentinel.ownSecrets" . | fromYamlArray }}
- {name: {{ .variable }}, value: /etc/sqlsentinel/own/{{ .variable }}}
{{- end }}
{{- end -}}

{{- define "sqlsentinel.mounts" -}}
{{- if include "sqlsentinel.ownSecrets" . | fromYamlArray }}
- {name: own, mountPath: /etc/sqlsentinel/own, readOnly: true}
{{- end }}
{{- if and .root.Values.nats.ca.existingConfigMap (ne .component "migrate") }}
- {name: nats-ca, mountPath: /etc/sqlsentinel/nats-ca, readOnly: true}
{{- end }}
{{- if .root.Values.caBundle.existingConfigMap }}
- {name: ca-bundle, mountPath: /etc/sqlsentinel/ca-bundle, readOnly: true}
{{- end }}
{{- end -}}

{{- define "sqlsentinel.volumes" -}}
{{- with include "sqlsentinel.ownSecrets" . | fromYamlArray }}
- name: own
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret: {name: {{ .secret }}, items: [{key: {{ .key }}, path: {{ .variable }}}]}
      {{- end }}
{{- end }}
{{- with .root.Values.nats.ca }}
{{- if and .existingConfigMap (ne $.component "migrate") }}
- name: nats-ca
  configMap: {name: {{ .existingConfigMap }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- with .root.Values.caBundle }}
{{- if .existingConfigMap }}
- name: ca-bundle
  configMap: {name: {{ .existingConfigMap }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end -}}

{{/* Only an operator's user may ask everybody how they are. */}}
{{- define "sqlsentinel.natsUser" -}}
{{ ternary "viewer" .component (eq .component "healthcheck") }}
{{- end -}}

{{/* The secrets that a process itself logs in with: a list of {variable, secret, key}. */}}
{{- define "sqlsentinel.ownSecrets" -}}
{{- $values := .root.Values -}}
{{- if not (or $values.nats.insecure (eq .component "migrate")) }}
- variable: {{ ternary "NATS_CREDENTIALS_FILE" "NATS_PASSWORD_FILE" (eq $values.nats.auth.method "credentials") }}
  secret: {{ required "nats.auth.existingSecret is required: a Secret with what NATS's users log in with (or nats.insecure)" $values.nats.auth.existingSecret }}
  key: {{ (index $values.nats.auth (include "sqlsentinel.natsUser" .)).key }}
{{- end }}
{{- if has .component (list "coordinator" "notifier" "migrate") }}
- variable: STATE_DB_URL_FILE
  secret: {{ required "stateDatabase.existingSecret is required: a Secret with the URL of the state database" $values.stateDatabase.existingSecret }}
  key: {{ ternary (default $values.stateDatabase.key $values.stateDatabase.notifierKey) $values.stateDatabase.key (eq .component "notifier") }}
{{- end }}
{{- $named := dict }}
{{- if eq .component "worker" }}
{{- $named = dict "DATABASE_URL_FILE" $values.worker.databaseUrl }}
{{- else if eq .component "notifier" }}
{{- with $values.notifier }}
{{- $named = dict "SLACK_WEBHOOK_URL_FILE" .slackWebhookUrl "WEBHOOK_URL_FILE" .webhookUrl "WEBHOOK_AUTH_HEADER_FILE" .webhookAuthHeader }}
{{- if .smtp.host }}{{ $_ := set $named "SMTP_PASSWORD_FILE" .smtp.password }}{{ end }}
{{- end }}
{{- end }}
{{- range $variable, $secret := $named }}
{{- if $secret.existingSecret }}
- {variable: {{ $variable }}, secret: {{ $secret.existingSecret }}, key: {{ $secret.key }}}
{{- end }}
{{- end }}
{{- end -}}
